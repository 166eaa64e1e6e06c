// Device memory: filled with NaNs, surrounded by canaries, and in `check` and `race` kept after it is freed, so that late accesses
// are found.
#include <cstdlib>

#include "runtime.h"

namespace emu {
std::mutex memory_mutex;
static std::map<uintptr_t, Allocation> allocations;
static int next_number = 1;
static size_t kept;  // bytes of freed allocations
constexpr unsigned char GUARD = 0xfb, GARBAGE = 0xff, FREED = 0xfd;
static char guard[CANARY];
static const bool guard_filled = [] { return memset(guard, GUARD, CANARY), true; }();

void prepare_allocations() {
  if (kept <= size_t(256) << 20) return;
  for (auto it = allocations.begin(); it != allocations.end();)  // nothing runs now: released for good
    if (it->second.freed) free(it->second.raw), it = allocations.erase(it);
    else ++it;
  kept = 0;
}
Allocation* find_allocation(uintptr_t address) {  // allocations do not change while a kernel runs
  auto it = allocations.upper_bound(address);
  if (it == allocations.begin()) return nullptr;
  Allocation* a = &std::prev(it)->second;
  return address - a->start < a->size + CANARY ? a : nullptr;
}
std::string describe_allocation(uintptr_t address) {
  auto distance = [&](const Allocation* a) { return address < a->start ? a->start - address : address < a->start + a->size ? 0 : address - a->start - a->size; };
  const Allocation* near = nullptr;
  for (auto& [start, a] : allocations)
    if (!near || distance(&a) < distance(near)) near = &a;
  if (!near || distance(near) >= 1 << 20) return format("address %p", reinterpret_cast<void*>(address));
  return format("%sbuffer #%d %+zd (of %zu bytes)", near->freed ? "FREED " : "", near->number, ssize_t(address - near->start), near->size);
}

static void check_canary(Allocation& a) {
  char *before = a.raw, *after = a.raw + CANARY + a.size;
  if (!memcmp(before, guard, CANARY) && !memcmp(after, guard, CANARY)) return;
  for (size_t i = 0; i < CANARY; ++i) {
    if (before[CANARY - 1 - i] != guard[0]) return memset(before, GUARD, CANARY), report(ILLEGAL_ADDRESS, format("buffer #%d (%zu bytes): byte %zu before its start was overwritten", a.number, a.size, i + 1));
    if (after[i] != guard[0]) return memset(after, GUARD, CANARY), report(ILLEGAL_ADDRESS, format("buffer #%d (%zu bytes): byte %zu past its end was overwritten", a.number, a.size, i));
  }
}
// Of the buffers that the arguments point into; of all buffers as often as costs no more than that.
void check_canaries(void** arguments, const KernelInfo* kernel) {
  static size_t launches;
  std::lock_guard<std::mutex> lock(memory_mutex);
  if (++launches >= 64 && launches >= allocations.size()) {
    launches = 0;
    for (auto& a : allocations)
      if (!a.second.freed) check_canary(a.second);
  }
  for (size_t i = 0; i < kernel->count; ++i)
    for (size_t o = 0; o + 8 <= kernel->sizes[i]; o += 8) {
      uintptr_t word;
      memcpy(&word, static_cast<char*>(arguments[i]) + o, 8);
      Allocation* a = find_allocation(word);
      if (a && !a->freed) check_canary(*a);
    }
}

static Allocation* whole(const void* device, size_t bytes) {
  auto address = reinterpret_cast<uintptr_t>(device);
  auto it = allocations.upper_bound(address);
  if (it == allocations.begin()) return nullptr;
  Allocation& a = std::prev(it)->second;
  return !a.freed && bytes <= a.size && address - a.start <= a.size - bytes ? &a : nullptr;
}
static void initialise(Allocation* a, const void* device, size_t bytes) {
#ifdef EMU_RACE
  size_t from = reinterpret_cast<uintptr_t>(device) - a->start, to = from + bytes;
  for (; from < to && from & 3; ++from) a->initialised[from >> 2] |= uint8_t(1u << (from & 3));
  for (; to > from && to & 3; --to) a->initialised[to >> 2] |= uint8_t(1u << ((to - 1) & 3));
  if (to > from) memset(&a->initialised[from >> 2], 15, (to - from) >> 2);
#endif
  (void)a, (void)device, (void)bytes;
}
}  // namespace emu
using namespace emu;
using Lock = std::lock_guard<std::mutex>;

EMU_EXPORT void* emu_alloc(size_t bytes) {
  Lock lock(memory_mutex);
  void* raw = nullptr;
  if (posix_memalign(&raw, 256, bytes + 2 * CANARY)) return nullptr;
  char* start = static_cast<char*>(raw) + CANARY;
  memset(raw, GUARD, CANARY);
  memset(start, GARBAGE, bytes);
  memset(start + bytes, GUARD, CANARY);
  Allocation& a = allocations[reinterpret_cast<uintptr_t>(start)];
  a = {reinterpret_cast<uintptr_t>(start), bytes, static_cast<char*>(raw), next_number++, false, nullptr, {}};
#ifdef EMU_RACE
  a.shadow = new_shadow(bytes);
  a.initialised.resize(bytes / 4 + 1);
#endif
  return start;
}
EMU_EXPORT int emu_free(void* device) {
  Lock lock(memory_mutex);
  auto it = allocations.find(reinterpret_cast<uintptr_t>(device));
  if (it == allocations.end() || it->second.freed) return INVALID_VALUE;
#ifdef EMU_INSTRUMENTED
  Allocation& a = it->second;
  a.freed = true;
  memset(device, FREED, a.size);
#ifdef EMU_RACE
  free_shadow(a.shadow, a.size);
  a.initialised = {};
#endif
  kept += a.size;
#else
  free(it->second.raw);
  allocations.erase(it);
#endif
  return 0;
}
EMU_EXPORT int emu_h2d(void* device, const void* host, size_t bytes) {
  Lock lock(memory_mutex);
  Allocation* a = whole(device, bytes);
  if (!a) return INVALID_VALUE;
  memcpy(device, host, bytes);
  initialise(a, device, bytes);
  return 0;
}
EMU_EXPORT int emu_d2h(void* host, const void* device, size_t bytes) {
  Lock lock(memory_mutex);
  if (!whole(device, bytes)) return INVALID_VALUE;
  memcpy(host, device, bytes);
  return 0;
}
EMU_EXPORT int emu_d2d(void* to, const void* from, size_t bytes) {
  Lock lock(memory_mutex);
  Allocation *a = whole(to, bytes), *b = whole(from, bytes);
  if (!a || !b) return INVALID_VALUE;
  memmove(to, from, bytes);
#ifdef EMU_RACE  // what was not initialised stays so
  size_t offset = reinterpret_cast<uintptr_t>(from) - b->start, into = reinterpret_cast<uintptr_t>(to) - a->start;
  for (size_t i = 0; i < bytes; ++i) {
    size_t f = offset + i, t = into + i;
    uint8_t bit = uint8_t(1u << (t & 3));
    if (b->initialised[f >> 2] >> (f & 3) & 1) a->initialised[t >> 2] |= bit;
    else a->initialised[t >> 2] &= uint8_t(~bit);
  }
#endif
  return 0;
}
EMU_EXPORT int emu_memset(void* device, const void* value, size_t width, size_t bytes) {
  Lock lock(memory_mutex);
  Allocation* a = whole(device, bytes);
  if (!a) return INVALID_VALUE;
  for (size_t i = 0; i < bytes; i += width) memcpy(static_cast<char*>(device) + i, value, width);
  initialise(a, device, bytes);
  return 0;
}
EMU_EXPORT void emu_mark_initialised(void* device, size_t bytes) {
  Lock lock(memory_mutex);
  if (Allocation* a = whole(device, bytes)) initialise(a, device, bytes);
}
