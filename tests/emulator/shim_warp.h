// Barriers, shuffles, votes, warp reductions, tensor-core instructions and asynchronous copies, as the kernels see them.
#pragma once

namespace emu {
void block_barrier(const void* site);
// The number of threads that came with a non-zero value.
unsigned block_barrier_count(const void* site, bool predicate);
void sync_warp(unsigned mask, const void* site);
// Of the whole device.
void fence();

using Slot = unsigned char[64];
enum WarpOp { SHFL_IDX, SHFL_UP, SHFL_DOWN, SHFL_XOR, BALLOT, MATCH, REDUCE, MMA, LDMATRIX, SYNCWARP };
// Leaves `n` bytes, waits until every lane of `mask` has, and sees everybody's bytes and whose they are.
const Slot* warp_exchange(unsigned mask, WarpOp, const void* payload, size_t n, const void* site, unsigned* present);

template <class T>
EMU_UNSEEN T shuffle(WarpOp op, unsigned mask, T value, int argument, int width, const void* site) {
  static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>, "what a shuffle moves");
  unsigned present;
  const Slot* slots = warp_exchange(mask, op, &value, sizeof(T), site, &present);
  // The lane read from, or the own one where that is outside the segment.
  int lane = int(self->lane), segment = lane & ~(width - 1), from;
  switch (op) {
    case SHFL_IDX: from = segment + (argument & (width - 1)); break;
    case SHFL_UP: from = lane - argument < segment ? lane : lane - argument; break;
    case SHFL_DOWN: from = (lane & (width - 1)) + argument >= width ? lane : lane + argument; break;
    default: from = (lane ^ argument) >= segment + width ? lane : lane ^ argument; break;
  }
  T result;
  if (from >= 0 && from < 32 && (present >> from & 1)) memcpy(&result, slots[from], sizeof(T));
  else memset(&result, 0xff, sizeof(T));  // undefined on a GPU: visible here
  return result;
}
template <class T, class F>
EMU_UNSEEN T reduce(unsigned mask, T value, F combine, const void* site) {
  unsigned present;
  const Slot* slots = warp_exchange(mask, REDUCE, &value, sizeof value, site, &present);
  T result = 0;
  for (bool first = true; present; present &= present - 1, first = false) {
    T x;
    memcpy(&x, slots[__builtin_ctz(present)], sizeof x);
    result = first ? x : combine(result, x);
  }
  return result;
}

// Tensor cores; registers as in the PTX manual. The wrappers are in kernels/device.cuh.
enum MmaType { TF32, BF16, F16 };
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MmaType, const void* site);
void ldmatrix(uint32_t* registers, int count, bool transposed, const void* row, const void* site);
void cp_async(void* to, const void* from, int bytes, int valid_bytes, const void* site);
void cp_async_commit();
void cp_async_wait(unsigned groups);
}  // namespace emu

EMU_CALL void __syncthreads() { emu::block_barrier(EMU_HERE); }
EMU_CALL int __syncthreads_count(int p) { return int(emu::block_barrier_count(EMU_HERE, p)); }
EMU_CALL int __syncthreads_or(int p) { return emu::block_barrier_count(EMU_HERE, p) != 0; }
EMU_CALL int __syncthreads_and(int p) { return emu::block_barrier_count(EMU_HERE, !p) == 0; }
EMU_CALL void __syncwarp(unsigned mask = 0xffffffffu) { emu::sync_warp(mask, EMU_HERE); }
EMU_CALL void __threadfence() { emu::fence(); }
EMU_CALL void __threadfence_system() { emu::fence(); }
EMU_CALL void __threadfence_block() {}

template <class T> EMU_CALL T __shfl_sync(unsigned m, T v, int lane, int width = 32) { return emu::shuffle(emu::SHFL_IDX, m, v, lane, width, EMU_HERE); }
template <class T> EMU_CALL T __shfl_up_sync(unsigned m, T v, unsigned d, int width = 32) { return emu::shuffle(emu::SHFL_UP, m, v, int(d), width, EMU_HERE); }
template <class T> EMU_CALL T __shfl_down_sync(unsigned m, T v, unsigned d, int width = 32) { return emu::shuffle(emu::SHFL_DOWN, m, v, int(d), width, EMU_HERE); }
template <class T> EMU_CALL T __shfl_xor_sync(unsigned m, T v, int x, int width = 32) { return emu::shuffle(emu::SHFL_XOR, m, v, x, width, EMU_HERE); }

namespace emu {
EMU_UNSEEN static inline unsigned ballot(unsigned mask, bool predicate, const void* site) {
  unsigned present, bits = 0;
  unsigned char byte = predicate;
  const Slot* slots = warp_exchange(mask, BALLOT, &byte, 1, site, &present);
  for (int i = 0; i < 32; ++i) bits |= unsigned((present >> i & 1) && slots[i][0]) << i;
  return bits;
}
}  // namespace emu
EMU_CALL unsigned __ballot_sync(unsigned mask, int p) { return emu::ballot(mask, p, EMU_HERE); }
EMU_CALL int __any_sync(unsigned mask, int p) { return emu::ballot(mask, p, EMU_HERE) != 0; }
EMU_CALL int __all_sync(unsigned mask, int p) { return emu::ballot(mask, !p, EMU_HERE) == 0; }
template <class T>
EMU_CALL unsigned __match_any_sync(unsigned mask, T value) {
  unsigned present, bits = 0;
  const emu::Slot* slots = emu::warp_exchange(mask, emu::MATCH, &value, sizeof value, EMU_HERE, &present);
  for (int i = 0; i < 32; ++i) bits |= unsigned((present >> i & 1) && !memcmp(slots[i], &value, sizeof value)) << i;
  return bits;
}
#define EMU_REDUCE(name, T, expression) \
  EMU_CALL T name(unsigned mask, T value) { return emu::reduce(mask, value, [](T a, T b) EMU_UNSEEN -> T { return (expression); }, EMU_HERE); }
EMU_REDUCE(__reduce_add_sync, unsigned, a + b)
EMU_REDUCE(__reduce_add_sync, int, int(unsigned(a) + unsigned(b)))
EMU_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
EMU_REDUCE(__reduce_min_sync, int, a < b ? a : b)
EMU_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
EMU_REDUCE(__reduce_max_sync, int, a > b ? a : b)
EMU_REDUCE(__reduce_and_sync, unsigned, a & b)
EMU_REDUCE(__reduce_or_sync, unsigned, a | b)
EMU_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
