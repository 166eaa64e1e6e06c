// Data races and uninitialised reads. Each 4-byte word remembers its last write and two reads. Two accesses are ordered by a kernel
// boundary, by a barrier of the block, or by a __syncwarp; those of two blocks only by a __threadfence before an atomic of the one
// and a later atomic of the other on the same word.
#include "runtime.h"
#ifdef EMU_RACE
#include <sys/mman.h>

#include <set>
#include <unordered_map>

namespace emu {
std::string describe(uintptr_t);

struct Access {
  uint32_t launch, block, epoch, clock;
  uint16_t thread;
  uint8_t mask;  // the bytes of the word
  bool atomic;
  uint32_t site;  // distance from `base`: the library is smaller than 4 GiB
};
struct Shadow { Access write, read[2]; };
// Of shared memory: which bytes are initialised, in which block of which launch.
struct Initialised { uint32_t launch, block; uint8_t mask; };
static std::vector<Shadow> shared_shadow[2];
static std::vector<Initialised> shared_initialised[2];
static std::set<std::pair<const void*, const void*>> reported;

static const char base = 0;
static uint32_t pack(const void* site) { return uint32_t(uintptr_t(site) - uintptr_t(&base) + (1u << 31)); }
static const void* unpack(uint32_t site) { return reinterpret_cast<const void*>(uintptr_t(&base) + site - (1u << 31)); }

// What blocks had published when they updated an atomic: by block, the position in the order of updates and the last epoch.
struct Published { std::unordered_map<uint32_t, std::pair<uint32_t, uint32_t>> blocks; uint32_t updates = 0; };
static std::unordered_map<uintptr_t, Published> published;
static std::unordered_map<uintptr_t, uint32_t> acquired;  // by this block: updates that it has seen

void begin_race_launch() {
  reported.clear();
  published.clear();
}
void begin_race_block() { acquired.clear(); }
void publish(uintptr_t atomic) {
  const Block& block = worker->block;
  const Fiber* f = me();
  Published& p = published[atomic];
  acquired[atomic] = p.updates++;
  if (f->fenced) p.blocks[block.index] = {p.updates - 1, f->fenced};
}
static bool seen_from(uint32_t block, uint32_t epoch) {
  for (auto& a : acquired) {
    auto& blocks = published[a.first].blocks;
    auto it = blocks.find(block);
    if (it != blocks.end() && it->second.first < a.second && epoch <= it->second.second) return true;
  }
  return false;
}
// Zero pages until they are touched: a shadow costs what its buffer's used part costs.
static size_t shadow_bytes(size_t bytes) { return (bytes / 4 + 2) * sizeof(Shadow); }
Shadow* new_shadow(size_t bytes) {
  void* p = mmap(nullptr, shadow_bytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<Shadow*>(p);
}
void free_shadow(Shadow* shadow, size_t bytes) { munmap(shadow, shadow_bytes(bytes)); }
void size_shared_shadow(size_t static_bytes) {
  const size_t bytes[2] = {static_bytes, MAX_SHARED};
  for (int i = 0; i < 2; ++i) shared_shadow[i].resize(bytes[i] / 4 + 8), shared_initialised[i].resize(bytes[i] / 4 + 8);
}

static bool ordered(const Access& before, const Fiber* f) {
  const Block& block = worker->block;
  if (before.launch != block.launch) return true;
  if (before.block != block.index) return seen_from(before.block, before.epoch);
  if (before.epoch != block.epoch || before.thread == f->index) return true;
  return before.thread >> 5 == f->warp && f->known[before.thread & 31] >= before.clock;
}
static void race(uintptr_t address, const Access& before, const char* what, const char* now, const void* site) {
  if (!reported.insert({unpack(before.site), site}).second || !reports_left()) return;
  std::string message = format("data race on %s: %s %s at %s, ", describe(address).c_str(), who(self).c_str(), now, line_of(site).c_str());
  if (before.block != worker->block.index) message += format("thread #%u of block #%u %s at %s", before.thread, before.block, what, line_of(unpack(before.site)).c_str());
  else message += format("thread #%u %s at %s, with no barrier between", before.thread, what, line_of(unpack(before.site)).c_str());
  report(LAUNCH_FAILED, message);
}
static void uninitialised(uintptr_t address, const void* site) {
  if (reported.insert({site, nullptr}).second && reports_left())
    report(LAUNCH_FAILED, format("%s reads uninitialised %s at %s", who(self).c_str(), describe(address).c_str(), line_of(site).c_str()));
}
static bool same_moment(const Access& a, const Access& b) { return a.thread == b.thread && a.epoch == b.epoch && a.clock == b.clock && a.block == b.block && a.launch == b.launch; }
static void check_word(Shadow& s, uintptr_t address, uint8_t mask, bool write, bool atomic, const Fiber* f, const void* site) {
  Access now{worker->block.launch, worker->block.index, worker->block.epoch, f->clock, uint16_t(f->index), mask, atomic, pack(site)};
  if ((s.write.mask & mask) && !(s.write.atomic && atomic) && !ordered(s.write, f))
    race(address, s.write, s.write.atomic ? "updated it atomically" : "wrote it", write ? "writes" : "reads", site);
  if (write) {
    for (auto& r : s.read)
      if ((r.mask & mask) && !ordered(r, f)) race(address, r, "read it", "writes", site);
    if (same_moment(s.write, now) && s.write.atomic == atomic) now.mask |= s.write.mask;
    s.write = now;
    return;
  }
  Access* slot = nullptr;
  for (auto& r : s.read)
    if (!slot && r.thread == now.thread && r.block == now.block && r.launch == now.launch) {
      if (same_moment(r, now)) now.mask |= r.mask;
      slot = &r;
    }
  for (auto& r : s.read)
    if (!slot && (!r.mask || ordered(r, f))) slot = &r;
  // Two concurrent readers are remembered already: those of two warps tell more than those of one.
  if (!slot && s.read[0].thread >> 5 == s.read[1].thread >> 5) slot = &s.read[1];
  if (slot) *slot = now;
}
template <class Each>
static void words(uintptr_t offset, uintptr_t address, unsigned bytes, Each each) {
  while (bytes) {
    unsigned in = offset & 3, n = std::min(4 - in, bytes);
    each(offset >> 2, address, uint8_t(((1u << n) - 1) << in));
    offset += n, address += n, bytes -= n;
  }
}
void shadow_global(Allocation* a, uintptr_t address, unsigned bytes, bool write, bool atomic, const void* site) {
  words(address - a->start, address, bytes, [&](size_t word, uintptr_t at, uint8_t mask) {
    uint8_t& known = a->initialised[word];
    if ((!write || atomic) && (known & mask) != mask) uninitialised(at, site);
    if (write) known |= mask;
    check_word(a->shadow[word], at, mask, write, atomic, me(), site);
  });
}
void shadow_shared(bool dynamic, uintptr_t offset, uintptr_t address, unsigned bytes, bool write, bool atomic, const void* site) {
  const Block& block = worker->block;
  words(offset, address, bytes, [&](size_t word, uintptr_t at, uint8_t mask) {
    Initialised& known = shared_initialised[dynamic][word];
    Shadow& shadow = shared_shadow[dynamic][word];
    if (known.launch != block.launch || known.block != block.index) known = {block.launch, block.index, 0}, shadow = {};
    if ((!write || atomic) && (known.mask & mask) != mask) uninitialised(at, site);
    if (write) known.mask |= mask;
    check_word(shadow, at, mask, write, atomic, me(), site);
  });
}
void shadow_forget(bool dynamic, uintptr_t offset, unsigned bytes) {
  words(offset, 0, bytes, [&](size_t word, uintptr_t, uint8_t mask) { shared_initialised[dynamic][word].mask &= uint8_t(~mask); });
}
}  // namespace emu
#endif
