// What gcc's instrumentation calls: the ABI of the kernel sanitizers, answered by our own checks. No sanitizer library is linked.
#include "runtime.h"

#ifdef EMU_INSTRUMENTED
namespace emu {
void add_variable(uintptr_t start, size_t size, size_t padded, const char* name, bool shared);
static inline void aligned(uintptr_t address, unsigned bytes, bool write, const void* site) {
  if ((address & (bytes - 1)) && self && address - uintptr_t(worker->stacks) >= MAX_THREADS * STACK)
    fail(MISALIGNED, format("%s: misaligned %u-byte %s at %s", who(self).c_str(), bytes, write ? "write" : "read", line_of(site).c_str()));
  access(address, bytes, write, false, site);
}
}  // namespace emu
using namespace emu;
#define HOOK extern "C" __attribute__((visibility("hidden"), used)) void

#ifdef EMU_CHECK  // -fsanitize=kernel-address with calls
#define ADDRESS(n)                                                                    \
  HOOK __asan_load##n##_noabort(uintptr_t a) { aligned(a, n, false, EMU_HERE); }      \
  HOOK __asan_store##n##_noabort(uintptr_t a) { aligned(a, n, true, EMU_HERE); }
ADDRESS(1) ADDRESS(2) ADDRESS(4) ADDRESS(8) ADDRESS(16)
HOOK __asan_loadN_noabort(uintptr_t a, size_t n) { access(a, unsigned(n), false, false, EMU_HERE); }
HOOK __asan_storeN_noabort(uintptr_t a, size_t n) { access(a, unsigned(n), true, false, EMU_HERE); }
HOOK __asan_handle_no_return() {}
struct Global { uintptr_t start; size_t size, padded; const char *name, *module; size_t dynamic; void* location; uintptr_t odr; };
HOOK __asan_register_globals(Global* g, size_t n) {
  for (size_t i = 0; i < n; ++i) add_variable(g[i].start, g[i].size, g[i].padded, g[i].name, strncmp(g[i].name, "emu_registration_", 17) != 0);
}
HOOK __asan_unregister_globals(Global*, size_t) {}
HOOK __asan_before_dynamic_init(const char*) {}
HOOK __asan_after_dynamic_init() {}

// -fsanitize=undefined: the first argument of every handler starts with the place in the source.
struct Place { const char* file; uint32_t line, column; };
static void undefined(const char* what, const Place* p) {
  const char* slash = strrchr(p->file, '/');
  if (self) fail(LAUNCH_FAILED, format("%s: undefined behaviour (%s) at %s:%u", who(self).c_str(), what, slash ? slash + 1 : p->file, p->line));
}
#define UNDEFINED(name) HOOK __ubsan_handle_##name(const Place* p) { undefined(#name, p); }
UNDEFINED(add_overflow) UNDEFINED(sub_overflow) UNDEFINED(mul_overflow) UNDEFINED(negate_overflow) UNDEFINED(divrem_overflow)
UNDEFINED(shift_out_of_bounds) UNDEFINED(out_of_bounds) UNDEFINED(vla_bound_not_positive) UNDEFINED(load_invalid_value)
UNDEFINED(float_cast_overflow) UNDEFINED(pointer_overflow) UNDEFINED(builtin_unreachable) UNDEFINED(missing_return)
UNDEFINED(nonnull_arg) UNDEFINED(nonnull_return_v1) UNDEFINED(invalid_builtin)
HOOK __ubsan_handle_type_mismatch_v1(const Place* p, uintptr_t address) { undefined(address ? "misaligned, or outside its object" : "null pointer", p); }
#endif

#ifdef EMU_RACE  // -fsanitize=thread
#define THREAD(n)                                                                           \
  HOOK __tsan_read##n(uintptr_t a) { aligned(a, n, false, EMU_HERE); }                      \
  HOOK __tsan_write##n(uintptr_t a) { aligned(a, n, true, EMU_HERE); }                      \
  HOOK __tsan_unaligned_read##n(uintptr_t a) { access(a, n, false, false, EMU_HERE); }      \
  HOOK __tsan_unaligned_write##n(uintptr_t a) { access(a, n, true, false, EMU_HERE); }      \
  HOOK __tsan_volatile_read##n(uintptr_t a) { access(a, n, false, false, EMU_HERE); }       \
  HOOK __tsan_volatile_write##n(uintptr_t a) { access(a, n, true, false, EMU_HERE); }
THREAD(1) THREAD(2) THREAD(4) THREAD(8) THREAD(16)
HOOK __tsan_read_range(uintptr_t a, size_t n) { access(a, unsigned(n), false, false, EMU_HERE); }
HOOK __tsan_write_range(uintptr_t a, size_t n) { access(a, unsigned(n), true, false, EMU_HERE); }
HOOK __tsan_vptr_update(void**, void*) {}
// The guards of __shared__ arrays of __half and __nv_bfloat16, whose initialiser is empty.
extern "C" __attribute__((visibility("hidden"))) uint8_t __tsan_atomic8_load(const volatile uint8_t* p, int) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
HOOK __tsan_init() {}
HOOK __tsan_func_entry(void*) {}
HOOK __tsan_func_exit() {}
#endif
#endif
