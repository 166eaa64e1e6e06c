// Atomics, on integers alone: the library sums floating point in fixed orders. And loads and stores with a cache hint.
#pragma once

namespace emu {
void on_atomic(void* p, unsigned bytes, const void* site);

template <class T, class F>
EMU_UNSEEN inline T read_modify_write(T* p, F change, const void* site) {
  on_atomic(p, sizeof(T), site);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &old, change(old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {}
  return old;
}
}  // namespace emu
#define EMU_ATOMIC(name, T, expression) \
  EMU_CALL T name(T* p, T v) { return emu::read_modify_write(p, [v](T old) EMU_UNSEEN -> T { return (expression); }, EMU_HERE); }
#define EMU_ATOMICS(T)                         \
  EMU_ATOMIC(atomicMax, T, old > v ? old : v)  \
  EMU_ATOMIC(atomicMin, T, old < v ? old : v)  \
  EMU_ATOMIC(atomicExch, T, (void(old), v))    \
  EMU_ATOMIC(atomicAnd, T, old & v)            \
  EMU_ATOMIC(atomicOr, T, old | v)             \
  EMU_ATOMIC(atomicXor, T, old ^ v)            \
  EMU_CALL T atomicCAS(T* p, T expected, T v) { return emu::read_modify_write(p, [expected, v](T old) EMU_UNSEEN -> T { return old == expected ? v : old; }, EMU_HERE); }
EMU_ATOMICS(int)
EMU_ATOMICS(unsigned)
EMU_ATOMICS(unsigned long long)
EMU_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(v)))
EMU_ATOMIC(atomicAdd, unsigned, old + v)
EMU_ATOMIC(atomicAdd, unsigned long long, old + v)
EMU_ATOMIC(atomicSub, int, int(unsigned(old) - unsigned(v)))
EMU_ATOMIC(atomicSub, unsigned, old - v)
EMU_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
EMU_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)

// Inlined, so that the access is the kernel's own.
#define EMU_LOAD(name) template <class T> __forceinline__ T name(const T* p) { return *p; }
EMU_LOAD(__ldg) EMU_LOAD(__ldca) EMU_LOAD(__ldcg) EMU_LOAD(__ldcs) EMU_LOAD(__ldlu) EMU_LOAD(__ldcv)
#define EMU_STORE(name) template <class T> __forceinline__ void name(T* p, T value) { *p = value; }
EMU_STORE(__stwb) EMU_STORE(__stcg) EMU_STORE(__stcs) EMU_STORE(__stwt)
