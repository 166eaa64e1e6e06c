// cuda_emu.cpp -- the emulator's runtime: fibers, block scheduler, barriers, warp collectives,
// device memory, and (flavours check and race) the sanitizer callbacks.  Never instrumented.
#include "shim.h"
#include "launch.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

// ------------------------------------------------------------------ context switch
#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
// System V: save the callee-saved registers, swap stacks.  (mxcsr/x87 control words are never
// changed by kernels, so they are not saved.)
extern "C" void emu_switch(void** save_sp, void* to_sp);
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch,.-emu_switch
)");
static void* make_stack(void* top, void (*entry)()) {
  auto sp = reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15);
  auto p = reinterpret_cast<void**>(sp);
  *--p = nullptr;  // fake return address: keeps rsp = 8 mod 16 at entry
  *--p = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--p = nullptr;
  return p;
}
#else  // portable fallback: ucontext (one system call per switch)
#include <ucontext.h>
static void emu_switch(void** save, void* to) {
  if (!*save) *save = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(*save), static_cast<ucontext_t*>(to));
}
static void* make_context(void* old, void* lo, size_t n, void (*entry)()) {
  auto* u = old ? static_cast<ucontext_t*>(old) : new ucontext_t;
  getcontext(u);
  u->uc_stack.ss_sp = lo, u->uc_stack.ss_size = n, u->uc_link = nullptr;
  makecontext(u, entry, 0);
  return u;
}
#endif

namespace emu {
thread_local ThreadView* self;

// ------------------------------------------------------------------ options, errors, symbols
static struct Options {
  int sched = 0;  // 0 forward, 1 reverse, 2 random
  uint64_t seed = 1;
  int workers = 0;  // 0 = all cores
  bool strict_barrier = true;
  bool perf = false;         // race flavour: count sectors and bank conflicts per source line
  bool cpasync_late = true;  // copy when waited for (true) or at once (false)
} opt;
enum { OK = 0, ERR_INVALID = 1, ERR_MEMORY = 700, ERR_SYNC = 701, ERR_RACE = 702, ERR_UNINIT = 703, ERR_ASSERT = 710 };
static std::mutex err_mu;
static std::string err_text;
static int err_code;
static thread_local std::string my_error;  // of this thread's last failed launch

static std::string symbol(const void* pc) {
  Dl_info d;
  const char* a = static_cast<const char*>(pc) - 1;
  if (!pc || !dladdr(a, &d)) return "?";
  char cmd[1200], line[600] = "";
  // PIE and shared objects: file offset of the instruction; falls back to the symbol name.
  snprintf(cmd, sizeof cmd, "addr2line -Cse '%s' 0x%zx 2>/dev/null", d.dli_fname, size_t(a - static_cast<const char*>(d.dli_fbase)));
  if (FILE* f = popen(cmd, "r")) {
    if (fgets(line, sizeof line, f)) line[strcspn(line, "\n")] = 0;
    pclose(f);
  }
  if (line[0] && line[0] != '?') return line;
  return d.dli_sname ? d.dli_sname : "?";
}
static std::string fmt(const char* f, ...) __attribute__((format(printf, 1, 2)));
static std::string fmt(const char* f, ...) {
  char b[1024];
  va_list ap;
  va_start(ap, f);
  vsnprintf(b, sizeof b, f, ap);
  va_end(ap);
  return b;
}
static bool report(int code, const std::string& m) {  // true when the text was new and kept
  std::lock_guard<std::mutex> l(err_mu);
  if (!err_code) err_code = code;
  if (err_text.size() > 4000) return false;
  err_text += m + "\n";
  return true;
}
static std::string who(const ThreadView* v) {
  return fmt("block (%u,%u,%u) thread (%u,%u,%u)", v->bid.x, v->bid.y, v->bid.z, v->tid.x, v->tid.y, v->tid.z);
}

// ------------------------------------------------------------------ device memory
constexpr size_t RED = 256;  // canary bytes on both sides of every allocation
struct Acc {                 // one remembered access (race flavour)
  uint32_t launch = 0, block = 0, epoch = 0, clk = 0;
  uint16_t tid = 0;
  uint8_t mask = 0, atomic = 0;
  const void* pc = nullptr;
};
struct Cell {  // shadow of one 4-byte word
  Acc w, r[2];
  uint8_t init = 0;                         // initialised bytes (global memory)
  uint32_t init_launch = 0, init_block = 0;  // whose initialisation counts (shared memory)
};
struct Alloc {
  uintptr_t lo;
  size_t size;
  char* raw;
  int id;
  bool freed;
  std::unique_ptr<Cell[]> shadow;
};
static std::mutex mem_mu;
static std::map<uintptr_t, Alloc> allocs;  // by start address
static std::vector<Alloc*> sorted;         // snapshot used while kernels run
static int next_id;
static unsigned alloc_gen;  // bumped when Allocs are really erased
static size_t quarantined;

static Alloc* find_alloc(uintptr_t a) {
  static Alloc* last;
  static unsigned gen;
  if (gen == alloc_gen && last && a - last->lo < last->size) return last;
  gen = alloc_gen, last = nullptr;
  auto it = std::upper_bound(sorted.begin(), sorted.end(), a, [](uintptr_t x, const Alloc* y) { return x < y->lo; });
  if (it == sorted.begin()) return nullptr;
  Alloc* p = *(it - 1);
  if (a - p->lo < p->size + RED) return last = p;
  return nullptr;
}
static bool canary_ok(const Alloc& a, std::string* why) {
  const auto* p = reinterpret_cast<const unsigned char*>(a.lo);
  for (size_t i = 0; i < RED; ++i) {
    if (p[-1 - ptrdiff_t(i)] != 0xFB) { *why = fmt("buffer #%d (%zu bytes): byte %zd before its start was overwritten", a.id, a.size, size_t(i) + 1); return false; }
    if (p[a.size + i] != 0xFB) { *why = fmt("buffer #%d (%zu bytes): byte %zu past its end was overwritten", a.id, a.size, i); return false; }
  }
  return true;
}

// ------------------------------------------------------------------ block, warp, fiber
struct Coll {  // one warp-wide operation in progress (double buffered: a lane can be one ahead)
  unsigned mask = 0, arrived = 0, gen = 0, present[2] = {};
  int op = 0;
  const void* site = nullptr;
  Slot slot[2][32];
};
struct Fiber;
struct Warp {
  unsigned exited = 0;  // lanes that returned or never existed
  std::unique_ptr<Coll> coll[32];  // by lowest lane of the mask
};
struct Bar {
  unsigned arrived = 0, count = 0;
  const void* site = nullptr;
  int tally[3] = {};
  int result[3] = {};
};
struct Block {
  unsigned nthreads = 0, live = 0, lin = 0, launch = 0;
  uint32_t epoch = 0;
  Bar bar[16];
  std::vector<Warp> warps;
  char* dyn = nullptr;
  size_t dyn_size = 0;
};
enum State : uint8_t { NEW, READY, WAIT_BAR, WAIT_COLL, DONE };
struct Copy { void* dst; const void* src; int bytes, src_bytes; unsigned group; const void* pc; };
struct Fiber : ThreadView {
  void* sp = nullptr;
  int stack;  // index of its stack, -1 before the first run
  State state;
  uint8_t bar_id;
  const void* site;
  Coll* coll;
  unsigned atomics;
  unsigned cp_group;
  uint32_t clk;     // own clock, advanced at every warp synchronisation
  uint32_t vc[32];  // latest known clock of each lane of this warp
  std::vector<Copy> copies;
};

constexpr size_t STACK = 64 << 10;
constexpr unsigned MAXT = 1024;
constexpr size_t MAX_SHARED = 232448;  // 227 KiB, sm_90
static std::atomic<uint32_t> epoch_counter{1}, launch_counter{0};

struct Worker {
  char* stacks;  // MAXT stacks, lowest page of each is a guard
  char* dyn_area;
  Fiber* fibers;
  std::vector<int> free_stacks;
  uint16_t ring[2048];
  unsigned head = 0, count = 0;
  void* sp = nullptr;
  Block blk;
  KernelInfo const* kernel = nullptr;
  void** args = nullptr;
  uint64_t rng = 1;
  bool failed = false;
  Worker() {
    stacks = static_cast<char*>(mmap(nullptr, MAXT * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    for (unsigned i = 0; i < MAXT; ++i) mprotect(stacks + i * STACK, 4096, PROT_NONE);
    size_t n = (MAXT * sizeof(Fiber) + 4095) & ~size_t(4095);
    fibers = static_cast<Fiber*>(mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (unsigned i = 0; i < MAXT; ++i) new (&fibers[i]) Fiber();
    void* p = nullptr;
    if (posix_memalign(&p, 4096, MAX_SHARED + 4096)) abort();
    dyn_area = static_cast<char*>(p);
    for (int i = MAXT; i-- > 0;) free_stacks.push_back(i);
  }
  void push(Fiber* f) { ring[(head + count++) & 2047] = uint16_t(f->lin); }
  Fiber* pop() {
    if (opt.sched == 2) {  // random: swap a random element to the front
      rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17;
      unsigned j = unsigned(rng % count);
      std::swap(ring[head & 2047], ring[(head + j) & 2047]);
    }
    Fiber* f = &fibers[ring[head++ & 2047]];
    --count;
    return f;
  }
  void run_block(const uint3& bid, unsigned lin);
};
static thread_local Worker* worker;
static inline Fiber* me() { return static_cast<Fiber*>(self); }

static void to_scheduler(bool final = false) {
  Fiber* f = me();
    emu_switch(&f->sp, worker->sp);
}
[[noreturn]] static void fail(int code, const std::string& m) {  // abandon this launch
  report(code, m);
  worker->failed = true;
  to_scheduler(true);
  __builtin_unreachable();
}
static void yield() {
  me()->state = READY;
  worker->push(me());
  to_scheduler();
}
static void fiber_entry() {
  worker->kernel->thunk(worker->args);
  me()->state = DONE;
  to_scheduler(true);
  __builtin_unreachable();
}

// ---- barriers
static void release_bar(Bar& b, int id) {
  Worker& w = *worker;
  for (int i = 0; i < 3; ++i) b.result[i] = b.tally[i], b.tally[i] = 0;
  b.arrived = 0;
  if (id == 0) w.blk.epoch = epoch_counter++;
  for (unsigned i = 0; i < w.blk.nthreads; ++i) {
    Fiber& f = w.fibers[i];
    if (f.state == WAIT_BAR && f.bar_id == id) f.state = READY, w.push(&f);
  }
}
static int barrier(const void* site, int id, unsigned count, int pred) {
  Block& k = worker->blk;
  Bar& b = k.bar[id];
  if (b.arrived && (b.site != site || b.count != count) && opt.strict_barrier && !count)
    fail(ERR_SYNC, fmt("divergent barrier: %s is at %s while others wait at %s", who(self).c_str(), symbol(site).c_str(), symbol(b.site).c_str()));
  b.site = site;
  b.count = count;
  if (pred) b.tally[0]++; else b.tally[1]++;
  unsigned need = count ? count : k.live;
  if (++b.arrived >= need) {
    if (!count && k.live != k.nthreads && opt.strict_barrier)
      fail(ERR_SYNC, fmt("barrier at %s reached by %u of %u threads (the others have returned)", symbol(site).c_str(), k.live, k.nthreads));
    release_bar(b, id);
  } else {
    Fiber* f = me();
    f->state = WAIT_BAR;
    f->bar_id = uint8_t(id);
    f->site = site;
    to_scheduler();
  }
  return b.result[0] | (b.result[1] ? 0x10000 : 0);
}
void block_barrier(const void* site, int id, unsigned count) { barrier(site, id, count, 0); }
int block_barrier_count(const void* site, int pred, int op) {
  int r = barrier(site, 0, 0, pred), n = r & 0xffff;
  return op == 0 ? n : op == 1 ? !(r & 0x10000) : n > 0;
}

// ---- warp collectives
static void finish_coll(Warp& wp, Coll& c) {
  Worker& w = *worker;
  c.present[c.gen & 1] = c.arrived;
  const bool sync = c.op == SYNCWARP;
  unsigned base = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (&w.blk.warps[i] == &wp) { base = i * 32; break; }
  if (sync) {  // memory ordering among the lanes: join their vector clocks
    uint32_t j[32] = {};
    for (int l = 0; l < 32; ++l)
      if (c.arrived >> l & 1) {
        Fiber& f = w.fibers[base + l];
        f.vc[l] = f.clk;
        for (int i = 0; i < 32; ++i) j[i] = std::max(j[i], f.vc[i]);
      }
    for (int l = 0; l < 32; ++l)
      if (c.arrived >> l & 1) {
        Fiber& f = w.fibers[base + l];
        memcpy(f.vc, j, sizeof j);
        f.clk++;
      }
  }
  for (int l = 0; l < 32; ++l)
    if (c.arrived >> l & 1) {
      Fiber& f = w.fibers[base + l];
      if (f.state == WAIT_COLL && f.coll == &c) f.state = READY, w.push(&f);
    }
  c.arrived = 0;
  c.gen++;
}
const Slot* warp_exchange(unsigned mask, int op, const void* payload, size_t n, const void* site, unsigned* present) {
  Fiber* f = me();
  Warp& wp = worker->blk.warps[f->warp];
  if (!(mask >> f->lane & 1)) fail(ERR_SYNC, fmt("%s at %s: lane %u is not in its own mask %08x", who(f).c_str(), symbol(site).c_str(), f->lane, mask));
  auto& slot = wp.coll[__builtin_ctz(mask)];
  if (!slot) slot = std::make_unique<Coll>();
  Coll& c = *slot;
  if (!c.arrived) c.mask = mask, c.op = op, c.site = site;
  else if (c.mask != mask || c.op != op)
    fail(ERR_SYNC, fmt("%s at %s: warp operation does not match the one its warp waits in at %s (mask %08x vs %08x)", who(f).c_str(), symbol(site).c_str(), symbol(c.site).c_str(), mask, c.mask));
  unsigned buf = c.gen & 1;
  memcpy(c.slot[buf][f->lane], payload, n);
  c.arrived |= 1u << f->lane;
  if (c.arrived == (mask & ~wp.exited)) {
    if (opt.strict_barrier && c.arrived != mask && (mask & ~(f->bdim.x * f->bdim.y * f->bdim.z - f->warp * 32 >= 32 ? 0xffffffffu : (1u << (f->bdim.x * f->bdim.y * f->bdim.z & 31)) - 1)) == 0)
      fail(ERR_SYNC, fmt("%s at %s: mask %08x names lanes that have already returned (%08x)", who(f).c_str(), symbol(site).c_str(), mask, mask & wp.exited));
    finish_coll(wp, c);
  } else {
    f->state = WAIT_COLL;
    f->coll = &c;
    f->site = site;
    to_scheduler();
  }
  *present = c.present[buf];
  return c.slot[buf];
}
void sync_warp(unsigned mask, const void* site) {
  unsigned p;
  char z = 0;
  warp_exchange(mask, SYNCWARP, &z, 1, site, &p);
}

// ---- scheduling of one block
void Worker::run_block(const uint3& bid, unsigned lin) {
  worker = this;
  Fiber* f0 = &fibers[0];
  blk.nthreads = f0->bdim.x * f0->bdim.y * f0->bdim.z;
  blk.live = blk.nthreads;
  blk.lin = lin;
  blk.epoch = epoch_counter++;
  for (auto& b : blk.bar) b = Bar();
  blk.warps.resize(32);
  for (unsigned i = 0; i < 32; ++i) {
    unsigned n = blk.nthreads > i * 32 ? std::min(32u, blk.nthreads - i * 32) : 0;
    blk.warps[i].exited = n == 32 ? 0 : ~((1u << n) - 1);
    for (auto& c : blk.warps[i].coll)
      if (c) c->arrived = 0;
  }
  head = count = 0;
  for (unsigned n = 0; n < blk.nthreads; ++n) {
    unsigned i = opt.sched == 1 ? blk.nthreads - 1 - n : n;
    Fiber& f = fibers[i];
    f.lin = i;
    f.tid = {i % f.bdim.x, i / f.bdim.x % f.bdim.y, i / (f.bdim.x * f.bdim.y)};
    f.bid = bid;
    f.lane = i & 31;
    f.warp = i >> 5;
    f.block = &blk;
    f.state = NEW;
    f.atomics = 0;
    f.cp_group = 0;
    f.copies.clear();
    f.clk = 1;
    memset(f.vc, 0, sizeof f.vc);
    push(&f);
  }
  while (count && !failed) {
    Fiber* f = pop();
    if (f->state == NEW) {
      f->stack = free_stacks.back();
      free_stacks.pop_back();
      char* lo = stacks + size_t(f->stack) * STACK;
#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
      f->sp = make_stack(lo + STACK, fiber_entry);
#else
      f->sp = make_context(f->sp, lo + 4096, STACK - 4096, fiber_entry);
#endif
      f->state = READY;
    }
    self = f;
    emu_switch(&sp, f->sp);
    if (f->state == DONE) {
      free_stacks.push_back(f->stack);
      --blk.live;
      Warp& wp = blk.warps[f->warp];
      wp.exited |= 1u << f->lane;
      if (!f->copies.empty()) report(ERR_SYNC, who(f) + " returned with cp.async copies it never waited for"), failed = true;
      // its absence may complete what others wait for
      for (auto& c : wp.coll)
        if (c && c->arrived && c->arrived == (c->mask & ~wp.exited)) {
          if (opt.strict_barrier) report(ERR_SYNC, fmt("%s returned while its warp waits for it in a warp operation at %s (mask %08x)", who(f).c_str(), symbol(c->site).c_str(), c->mask)), failed = true;
          else finish_coll(wp, *c);
        }
      Bar& b = blk.bar[0];
      if (b.arrived && !b.count && b.arrived == blk.live && !failed) {
        if (opt.strict_barrier) report(ERR_SYNC, fmt("barrier at %s reached by %u of %u threads (the others have returned)", symbol(b.site).c_str(), b.arrived, blk.nthreads)), failed = true;
        else release_bar(b, 0);
      }
    }
  }
  self = nullptr;
  if (!failed && blk.live) {
    std::map<const void*, unsigned> sites;
    for (unsigned i = 0; i < blk.nthreads; ++i)
      if (fibers[i].state != DONE) sites[fibers[i].site]++;
    std::string m = fmt("deadlock in block (%u,%u,%u):", bid.x, bid.y, bid.z);
    for (auto& s : sites) m += fmt(" %u threads wait at %s;", s.second, symbol(s.first).c_str());
    report(ERR_SYNC, m);
    failed = true;
  }
  if (failed) {  // the abandoned fibers' stacks are simply reused
    free_stacks.clear();
    for (int i = MAXT; i-- > 0;) free_stacks.push_back(i);
    for (auto& w : blk.warps) for (auto& c : w.coll) c.reset();
  }
}

void* dyn_shared() { return worker->blk.dyn; }
void device_assert(const char* e, const char* file, int line) { fail(ERR_ASSERT, fmt("%s:%d: assertion `%s' failed in %s", file, line, e, who(self).c_str())); }

// ------------------------------------------------------------------ cp.async, mma
static void access(uintptr_t a, unsigned n, bool write, bool atomic, const void* pc);
#ifdef EMU_RACE
static void perf_access(const Fiber* f, uintptr_t a, unsigned n, bool write, bool shared, const void* pc);
#endif
static void do_copy(const Copy& c) {
#ifdef EMU_RACE
  const bool count = opt.perf;
  opt.perf = false;
  if (count) {  // one 16-byte request on each side
    if (c.src_bytes) perf_access(me(), uintptr_t(c.src), unsigned(c.bytes), false, false, c.pc);
    perf_access(me(), uintptr_t(c.dst), unsigned(c.bytes), true, true, static_cast<const char*>(c.pc) + 1);
  }
#endif
#ifdef EMU_INSTRUMENTED
  for (int i = 0; i < c.bytes; i += 4) {
    if (i < c.src_bytes) access(uintptr_t(c.src) + i, 4, false, false, c.pc);
    access(uintptr_t(c.dst) + i, 4, true, false, c.pc);
  }
#endif
#ifdef EMU_RACE
  opt.perf = count;
#endif
  memcpy(c.dst, c.src, c.src_bytes);
  memset(static_cast<char*>(c.dst) + c.src_bytes, 0, c.bytes - c.src_bytes);
}
void cp_async(void* dst, const void* src, int bytes, int src_bytes) {
  Fiber* f = me();
  Copy c{dst, src, bytes, src_bytes, f->cp_group, EMU_HERE};
  if (uintptr_t(dst) % bytes || uintptr_t(src) % bytes) fail(ERR_MEMORY, fmt("misaligned cp.async in %s at %s", who(f).c_str(), symbol(c.pc).c_str()));
  if (!opt.cpasync_late) return do_copy(c);
  // Land as late as the ISA allows; until then the destination holds garbage.
  memset(dst, 0xff, bytes);
  f->copies.push_back(c);
}
void cp_async_commit() { me()->cp_group++; }
void cp_async_wait(int n) {
  Fiber* f = me();
  size_t keep = 0;
  for (size_t i = 0; i < f->copies.size(); ++i) {
    if (f->copies[i].group + unsigned(n) < f->cp_group) do_copy(f->copies[i]);
    else f->copies[keep++] = f->copies[i];
  }
  f->copies.resize(keep);
}
static inline float bf(uint32_t r, int hi) {
  uint32_t u = hi ? r & 0xffff0000u : r << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}
static inline float tf(uint32_t r) { r &= ~0x1fffu; float x; memcpy(&x, &r, 4); return x; }
struct Frag { uint32_t a[4], b[2]; };
static const Slot* frags(int op, const uint32_t (&a)[4], const uint32_t (&b)[2], const void* site) {
  Frag p;
  memcpy(p.a, a, 16);
  memcpy(p.b, b, 8);
  unsigned present;
  const Slot* s = warp_exchange(0xffffffffu, op, &p, sizeof p, site, &present);
  if (present != 0xffffffffu) fail(ERR_SYNC, fmt("mma.sync by an incomplete warp at %s", symbol(site).c_str()));
  return s;
}
#define FR(l) reinterpret_cast<const Frag*>(s[l])
void mma_tf32_16x8x8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Slot* s = frags(MMA_TF32, a, b, EMU_HERE);
  int g = int(self->lane) >> 2, t = int(self->lane) & 3;
  for (int k = 0; k < 8; ++k) {
    const Frag *pa = FR(g * 4 + k % 4), *b0 = FR(2 * t * 4 + k % 4), *b1 = FR((2 * t + 1) * 4 + k % 4);
    float a0 = tf(pa->a[k < 4 ? 0 : 2]), a1 = tf(pa->a[k < 4 ? 1 : 3]);
    float x0 = tf(b0->b[k / 4]), x1 = tf(b1->b[k / 4]);
    d[0] += a0 * x0; d[1] += a0 * x1; d[2] += a1 * x0; d[3] += a1 * x1;
  }
}
void mma_bf16_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Slot* s = frags(MMA_BF16, a, b, EMU_HERE);
  int g = int(self->lane) >> 2, t = int(self->lane) & 3;
  for (int k = 0; k < 16; ++k) {
    int q = k % 8 / 2, h = k & 1, hi = k / 8;
    const Frag *pa = FR(g * 4 + q), *b0 = FR(2 * t * 4 + q), *b1 = FR((2 * t + 1) * 4 + q);
    float a0 = bf(pa->a[2 * hi], h), a1 = bf(pa->a[2 * hi + 1], h), x0 = bf(b0->b[hi], h), x1 = bf(b1->b[hi], h);
    d[0] += a0 * x0; d[1] += a0 * x1; d[2] += a1 * x0; d[3] += a1 * x1;
  }
}

// ------------------------------------------------------------------ access checking
// The kernels' own writable statics are __shared__ variables: find this module's data segment.
static uintptr_t mod_lo, mod_hi, data_lo, data_hi, bss_lo;  // shared variables live in .bss
static int find_module(dl_phdr_info* i, size_t, void*) {
  auto here = reinterpret_cast<uintptr_t>(&find_module);
  uintptr_t lo = ~uintptr_t(0), hi = 0, dl = ~uintptr_t(0), dh = 0, bl = 0;
  for (int k = 0; k < i->dlpi_phnum; ++k) {
    auto& p = i->dlpi_phdr[k];
    if (p.p_type != PT_LOAD) continue;
    uintptr_t a = i->dlpi_addr + p.p_vaddr, b = a + p.p_memsz;
    lo = std::min(lo, a), hi = std::max(hi, b);
    if (p.p_flags & PF_W) dl = std::min(dl, a), dh = std::max(dh, b), bl = a + p.p_filesz;
  }
  if (here < lo || here >= hi) return 0;
  mod_lo = lo, mod_hi = hi, data_lo = dl, data_hi = dh, bss_lo = bl;
  return 1;
}
struct Var { uintptr_t lo; size_t size, padded; const char* name; bool shared; };
static std::vector<Var>& vars() { static std::vector<Var> v; return v; }  // from gcc (check) 
static const Var* find_var(uintptr_t a) {
  auto& v = vars();
  static const Var* last;  // instrumented flavours run one block at a time
  if (last && a - last->lo < last->padded) return last;
  auto it = std::upper_bound(v.begin(), v.end(), a, [](uintptr_t x, const Var& y) { return x < y.lo; });
  if (it == v.begin() || a >= (it - 1)->lo + (it - 1)->padded) return nullptr;
  return last = &*(it - 1);
}
static std::string describe(uintptr_t a) {
  Worker& w = *worker;
  if (a - uintptr_t(w.blk.dyn) < MAX_SHARED) return fmt("dynamic shared memory + %zu (of %zu bytes)", a - uintptr_t(w.blk.dyn), w.blk.dyn_size);
  if (const Var* v = find_var(a)) return fmt("%s variable '%s' + %zu (of %zu bytes)", v->shared ? "__shared__" : "static", v->name, a - v->lo, v->size);
  if (a >= data_lo && a < data_hi) {
    Dl_info d;
    return dladdr(reinterpret_cast<void*>(a), &d) && d.dli_sname ? fmt("__shared__ near %s", d.dli_sname) : fmt("__shared__ memory at module + 0x%zx", a - mod_lo);
  }
  const Alloc* near = nullptr;
  auto dist = [&](const Alloc* p) { return a < p->lo ? p->lo - a : a < p->lo + p->size ? 0 : a - p->lo - p->size; };
  for (auto* p : sorted) if (!near || dist(p) < dist(near)) near = p;
  if (near && dist(near) < (1 << 20)) return fmt("%sglobal buffer #%d %+zd (of %zu bytes)", near->freed ? "FREED " : "", near->id, ssize_t(a - near->lo), near->size);
  return fmt("address %p", reinterpret_cast<void*>(a));
}
static std::set<std::pair<const void*, const void*>> seen;

#ifdef EMU_RACE
static std::vector<Cell> static_shadow, dyn_shadow;
static bool ordered(const Acc& o, const Fiber* f) {  // does `o` happen before f's current access?
  const Block& k = worker->blk;
  if (o.launch != k.launch) return true;  // kernel boundary
  if (o.block != k.lin) return false;     // other block, same launch
  if (o.epoch != k.epoch) return true;    // a block barrier in between
  if (o.tid == f->lin) return true;
  return o.tid >> 5 == f->warp && f->vc[o.tid & 31] >= o.clk;  // a __syncwarp in between
}
static void race(uintptr_t a, const Acc& o, const char* okind, const Fiber* f, const char* kind, const void* pc) {
  if (!seen.insert({o.pc, pc}).second) return;
  std::string m = fmt("data race on %s: %s %s at %s, ", describe(a).c_str(), who(f).c_str(), kind, symbol(pc).c_str());
  m += o.block != worker->blk.lin ? fmt("block #%u thread #%u %s at %s (different blocks)", o.block, o.tid, okind, symbol(o.pc).c_str())
                                  : fmt("thread #%u %s at %s, no barrier between", o.tid, okind, symbol(o.pc).c_str());
  report(ERR_RACE, m);
}
static void check_word(Cell& c, uintptr_t a, uint8_t mask, bool write, bool atomic, bool shared, Fiber* f, const void* pc) {
  const Block& k = worker->blk;
  Acc n{k.launch, k.lin, k.epoch, f->clk, uint16_t(f->lin), mask, atomic, pc};
  if (shared && (c.init_launch != k.launch || c.init_block != k.lin)) c.init = 0, c.init_launch = k.launch, c.init_block = k.lin, c.w = Acc(), c.r[0] = c.r[1] = Acc();
  if ((!write || atomic) && (c.init & mask) != mask && seen.insert({pc, nullptr}).second)
    report(ERR_UNINIT, fmt("%s reads uninitialised %s at %s", who(f).c_str(), describe(a).c_str(), symbol(pc).c_str()));
  if ((c.w.mask & mask) && !(c.w.atomic && atomic) && !ordered(c.w, f)) race(a, c.w, c.w.atomic ? "updated it atomically" : "wrote it", f, write ? "writes" : "reads", pc);
  if (write) {
    for (auto& r : c.r)
      if ((r.mask & mask) && !ordered(r, f)) race(a, r, "read it", f, "writes", pc);
    if (c.w.tid == n.tid && c.w.epoch == n.epoch && c.w.clk == n.clk && c.w.block == n.block && c.w.launch == n.launch && c.w.atomic == atomic) n.mask |= c.w.mask;
    c.w = n;
    c.init |= mask;
  } else {
    Acc* slot = nullptr;
    for (auto& r : c.r) if (r.tid == n.tid && r.block == n.block && r.launch == n.launch) { if (r.epoch == n.epoch && r.clk == n.clk) n.mask |= r.mask; slot = &r; break; }
    if (!slot) for (auto& r : c.r) if (!r.mask || ordered(r, f)) { slot = &r; break; }
    // both slots hold concurrent readers: prefer readers from different warps
    if (!slot && c.r[0].tid >> 5 == c.r[1].tid >> 5) slot = &c.r[1];
    if (slot) *slot = n;
  }
}
static void shadow(Cell* base, uintptr_t off, uintptr_t a, unsigned n, bool write, bool atomic, bool shared, const void* pc) {
  while (n) {
    unsigned in = off & 3, m = std::min(4 - in, n);
    check_word(base[off >> 2], a, uint8_t(((1u << m) - 1) << in), write, atomic, shared, me(), pc);
    off += m, a += m, n -= m;
  }
}
#endif

#ifdef EMU_RACE
// Performance lint: the lanes of a warp execute one source access together the k-th time; count
// the 32-byte sectors (global) or the shared-memory wavefronts each such request needs.
struct Site { uint64_t requests = 0, units = 0, ideal = 0; bool shared = false, write = false; };
struct Request { uint32_t mask = 0; uintptr_t a[32]; };
struct Stream { uint32_t visits[32] = {}, base = 0; unsigned n = 0; bool shared = false, write = false; std::vector<Request> open; };
static std::map<const void*, Site> perf;
static std::map<std::pair<unsigned, const void*>, Stream> streams;
static void count_request(const void* pc, const Stream& st, const Request& r) {
  Site& s = perf[pc];
  s.shared = st.shared, s.write = st.write;
  s.requests++;
  unsigned active = unsigned(__builtin_popcount(r.mask));
  if (!st.shared) {
    std::set<uintptr_t> sectors;
    for (int l = 0; l < 32; ++l) if (r.mask >> l & 1) for (unsigned o = 0; o < st.n; o += 4) sectors.insert((r.a[l] + o) >> 5);
    s.units += sectors.size();
    s.ideal += (active * st.n + 31) / 32;
  } else {
    unsigned phases = std::max(1u, st.n / 4), lanes = 32 / phases;  // 64/128-bit accesses go in halves/quarters
    for (unsigned p = 0; p < phases; ++p) {
      std::set<uintptr_t> bank[32];
      size_t worst = 0;
      for (unsigned l = p * lanes; l < (p + 1) * lanes; ++l)
        if (r.mask >> l & 1) for (unsigned o = 0; o < std::max(4u, st.n); o += 4) { uintptr_t w = (r.a[l] + o) >> 2; bank[w & 31].insert(w); worst = std::max(worst, bank[w & 31].size()); }
      s.units += worst;
      s.ideal += worst > 0;
    }
  }
}
static void perf_access(const Fiber* f, uintptr_t a, unsigned n, bool write, bool shared, const void* pc) {
  Stream& st = streams[{f->warp, pc}];
  st.n = n, st.shared = shared, st.write = write;
  uint32_t k = st.visits[f->lane]++ - st.base;
  if (st.open.size() <= k) st.open.resize(k + 1);
  st.open[k].a[f->lane] = a;
  st.open[k].mask |= 1u << f->lane;
  size_t done = 0;
  while (done < st.open.size() && st.open[done].mask == 0xffffffffu) count_request(pc, st, st.open[done++]);
  if (done) st.open.erase(st.open.begin(), st.open.begin() + ptrdiff_t(done)), st.base += uint32_t(done);
}
static void perf_block_end() {
  for (auto& s : streams) for (auto& r : s.second.open) if (r.mask) count_request(s.first.second, s.second, r);
  streams.clear();
}
#endif
#ifdef EMU_INSTRUMENTED
static inline void access_aligned(uintptr_t a, unsigned n, bool write, const void* pc) {
  if ((a & (n - 1)) && self && a - uintptr_t(worker->stacks) >= MAXT * STACK)
    fail(ERR_MEMORY, fmt("%s: misaligned %u-byte %s of %s, at %s", who(self).c_str(), n, write ? "write" : "read", describe(a).c_str(), symbol(pc).c_str()));
  access(a, n, write, false, pc);
}
static void access(uintptr_t a, unsigned n, bool write, bool atomic, const void* pc) {
  Worker* w = worker;
  if (!self || !w) return;
  Fiber* f = me();
  // 1. the thread's own stack and builtin variables
  uintptr_t st = uintptr_t(w->stacks) + size_t(f->stack) * STACK;
  if (a - st < STACK) return;
  if (a - uintptr_t(w->fibers) < MAXT * sizeof(Fiber) || a == uintptr_t(&self)) return;
  const char* what = write ? "writes" : "reads";
  // 2. dynamic shared memory
  if (a - uintptr_t(w->blk.dyn) < MAX_SHARED + 4096) {
    size_t off = a - uintptr_t(w->blk.dyn);
    if (off + n > w->blk.dyn_size) fail(ERR_MEMORY, fmt("%s %s %u bytes out of bounds: %s, at %s", who(f).c_str(), what, n, describe(a).c_str(), symbol(pc).c_str()));
#ifdef EMU_RACE
    shadow(dyn_shadow.data(), off, a, n, write, atomic, true, pc);
    if (opt.perf) perf_access(f, off, n, write, true, pc);
#endif
    return;
  }
  // 3. static shared memory and constants of the module
  if (a >= mod_lo && a < mod_hi) {
    if (const Var* v = find_var(a)) {
      if (a + n > v->lo + v->size) fail(ERR_MEMORY, fmt("%s %s %u bytes out of bounds: %s, at %s", who(f).c_str(), what, n, describe(a).c_str(), symbol(pc).c_str()));
    }
#ifdef EMU_RACE
    if (a >= data_lo && a < data_hi) {
      shadow(static_shadow.data(), a - data_lo, a, n, write, atomic, true, pc);
      if (opt.perf) perf_access(f, a, n, write, true, pc);
    }
#endif
    return;
  }
  // 4. device memory
  Alloc* p = find_alloc(a);
  if (!p || p->freed || a - p->lo + n > p->size)
    fail(ERR_MEMORY, fmt("%s %s %u bytes of invalid memory: %s, at %s", who(f).c_str(), what, n, describe(a).c_str(), symbol(pc).c_str()));
#ifdef EMU_RACE
  shadow(p->shadow.get(), a - p->lo, a, n, write, atomic, false, pc);
  if (opt.perf) perf_access(f, a, n, write, false, pc);
#else
  (void)atomic;
#endif
#ifdef EMU_RACE
  if (opt.sched == 2) {  // random preemption at memory accesses
    w->rng ^= w->rng << 13; w->rng ^= w->rng >> 7; w->rng ^= w->rng << 17;
    if (!(w->rng & 63)) yield();
  }
#endif
}
#else
static void access(uintptr_t, unsigned, bool, bool, const void*) {}
#endif
void on_atomic(void* p, unsigned size, const void* pc) {
  access(uintptr_t(p), size, true, true, pc);
  if (!(++me()->atomics & 255)) yield();  // a spinning thread must let the others run
}

// ------------------------------------------------------------------ launching
static KernelInfo*& kernels() { static KernelInfo* k; return k; }
void register_kernel(KernelInfo* k) { k->next = kernels(); kernels() = k; }

static void on_signal(int sig, siginfo_t* si, void*) {  // last words, then the default action
  if (self && worker) {
    std::string m = fmt("strait-emu: signal %d (%s) at address %p in kernel %s, %s\n", sig, strsignal(sig), si->si_addr, worker->kernel->name, who(self).c_str());
    if (write(2, m.data(), m.size()) < 0) {}
  }
  signal(sig, SIG_DFL);
}
static void install_handler() {
  static bool once = [] {
    struct sigaction sa = {};
    sa.sa_sigaction = on_signal;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int s : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(s, &sa, nullptr);
    return true;
  }();
  (void)once;
  static thread_local char* alt;
  if (!alt) {
    alt = static_cast<char*>(malloc(65536));
    stack_t ss = {};
    ss.ss_sp = alt, ss.ss_size = 65536;
    sigaltstack(&ss, nullptr);
  }
}
struct Job { const KernelInfo* k; dim3 grid, block; unsigned shared; void** args; std::atomic<unsigned> next{0}; unsigned total, launch; };
static Worker& my_worker() {
  static thread_local std::unique_ptr<Worker> w;
  if (!w) w = std::make_unique<Worker>();
  return *w;
}
static void run_blocks(Job& j) {
  Worker& w = my_worker();
  install_handler();
  worker = &w;
  w.kernel = j.k;
  w.args = j.args;
  w.failed = false;
  w.blk.launch = j.launch;
  w.blk.dyn = w.dyn_area;
  w.blk.dyn_size = j.shared;
  unsigned n = j.block.x * j.block.y * j.block.z;
  for (unsigned i = 0; i < n; ++i) w.fibers[i].bdim = j.block, w.fibers[i].gdim = j.grid;
  for (;;) {
    unsigned b = j.next++;
    if (b >= j.total || w.failed) break;
    w.rng = opt.seed * 0x9E3779B97F4A7C15ull + b * 0xD1B54A32D192ED03ull + 1;
#ifndef EMU_FAST  // shared memory starts as NaN garbage in every block
    memset(w.blk.dyn, 0xff, j.shared);
#ifdef EMU_CHECK
    for (auto& v : vars()) if (v.shared) memset(reinterpret_cast<void*>(v.lo), 0xff, v.size);
#endif
#endif
    w.run_block({b % j.grid.x, b / j.grid.x % j.grid.y, b / (j.grid.x * j.grid.y)}, b);
#ifdef EMU_RACE
    if (opt.perf) perf_block_end();
#endif
  }
  if (w.failed) j.next = j.total;
}
// A small persistent pool (fast flavour only: elsewhere shared memory exists once).
struct Pool {
  std::mutex mu, launch_mu;
  std::condition_variable cv, done;
  Job* job = nullptr;
  unsigned gen = 0, busy = 0;
  std::vector<std::thread> th;
  void start(unsigned n) {
    while (th.size() < n)
      th.emplace_back([this] {
        unsigned seen_gen = 0;
        for (;;) {
          Job* j;
          {
            std::unique_lock<std::mutex> l(mu);
            cv.wait(l, [&] { return gen != seen_gen; });
            seen_gen = gen;
            j = job;
            if (!j) continue;
            ++busy;
          }
          run_blocks(*j);
          std::lock_guard<std::mutex> l(mu);
          if (!--busy) done.notify_all();
        }
      });
  }
};
static Pool* pool() { static Pool* p = new Pool; return p; }  // leaked: threads outlive main

#ifdef EMU_RACE
// Names and sizes of the static variables, from our own symbol table (best effort).
static void read_symtab() {
  Dl_info d;
  if (!dladdr(reinterpret_cast<void*>(&read_symtab), &d)) return;
  FILE* f = fopen(d.dli_fname, "rb");
  if (!f) return;
  std::string b;
  char buf[65536];
  for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;) b.append(buf, n);
  fclose(f);
  auto* eh = reinterpret_cast<const ElfW(Ehdr)*>(b.data());
  auto* sh = reinterpret_cast<const ElfW(Shdr)*>(b.data() + eh->e_shoff);
  for (int i = 0; i < eh->e_shnum; ++i) {
    if (sh[i].sh_type != SHT_SYMTAB) continue;
    auto* s = reinterpret_cast<const ElfW(Sym)*>(b.data() + sh[i].sh_offset);
    const char* str = b.data() + sh[sh[i].sh_link].sh_offset;
    for (size_t k = 0; k < sh[i].sh_size / sizeof *s; ++k) {
      uintptr_t a = s[k].st_value + uintptr_t(d.dli_fbase);
      if ((s[k].st_info & 15) != STT_OBJECT || a < data_lo || a >= data_hi || !s[k].st_size || strncmp(str + s[k].st_name, "_ZZ", 3)) continue;
      int st;
      char* dem = abi::__cxa_demangle(str + s[k].st_name, nullptr, nullptr, &st);
      const char* colon = dem ? strrchr(dem, ':') : nullptr;
      vars().push_back({a, s[k].st_size, s[k].st_size, strdup(colon ? colon + 1 : str + s[k].st_name), true});
      free(dem);
    }
  }
}
#endif
static void prepare() {
  if (!mod_lo) {
    dl_iterate_phdr(find_module, nullptr);
#ifdef EMU_RACE
    read_symtab();
#endif
    auto& v = vars();
    std::sort(v.begin(), v.end(), [](const Var& a, const Var& b) { return a.lo < b.lo; });
    for (auto& x : v) x.shared = x.shared && x.lo >= bss_lo && x.lo < data_hi;
#ifdef EMU_RACE
    static_shadow.resize((data_hi - data_lo + 3) / 4 + 8);
    dyn_shadow.resize(MAX_SHARED / 4 + 8);
#endif
  }
  if (quarantined > size_t(256) << 20) {  // nothing runs now: release the freed buffers for good
    for (auto it = allocs.begin(); it != allocs.end();) {
      if (it->second.freed) free(it->second.raw), it = allocs.erase(it);
      else ++it;
    }
    quarantined = 0;
    ++alloc_gen;
  }
  sorted.clear();
  for (auto& a : allocs) sorted.push_back(&a.second);
}
}  // namespace emu

using namespace emu;
#define API extern "C" __attribute__((visibility("default")))

API int emu_launch_info(const KernelInfo* k, const unsigned g[3], const unsigned b[3], unsigned shared, void** args) {
  std::lock_guard<std::mutex> one(pool()->launch_mu);
  {
    std::lock_guard<std::mutex> l(err_mu);
    err_text.clear();
    err_code = 0;
    seen.clear();
  }
  uint64_t threads = uint64_t(b[0]) * b[1] * b[2], blocks = uint64_t(g[0]) * g[1] * g[2];
  if (!threads || threads > MAXT || b[2] > 64 || !blocks || blocks > 0x7fffffff || g[1] > 65535 || g[2] > 65535 || shared > MAX_SHARED) {
    report(ERR_INVALID, fmt("%s: invalid launch: grid (%u,%u,%u) block (%u,%u,%u) shared %u", k->name, g[0], g[1], g[2], b[0], b[1], b[2], shared));
    my_error = err_text;
    return ERR_INVALID;
  }
  {
    std::lock_guard<std::mutex> l(mem_mu);
    prepare();
  }
  Job j{k, dim3(g[0], g[1], g[2]), dim3(b[0], b[1], b[2]), shared, args, {}, unsigned(blocks), ++launch_counter};
#ifdef EMU_FAST
  unsigned n = opt.workers ? unsigned(opt.workers) : std::max(1u, std::thread::hardware_concurrency());
  n = std::min<unsigned>(n, unsigned(blocks));
  Pool& p = *pool();
  if (n > 1) {
    p.start(n - 1);
    std::lock_guard<std::mutex> l(p.mu);
    p.job = &j;
    ++p.gen;
    p.cv.notify_all();
  }
  run_blocks(j);
  if (n > 1) {
    std::unique_lock<std::mutex> l(p.mu);
    p.job = nullptr;
    p.done.wait(l, [&] { return p.busy == 0; });
  }
#else
  run_blocks(j);
#endif
  std::lock_guard<std::mutex> l(mem_mu);  // other threads may be allocating and freeing
  std::string why;
  for (auto& it : allocs) {
    Alloc& a = it.second;
    if (a.freed || canary_ok(a, &why)) continue;
    report(ERR_MEMORY, why);
    memset(reinterpret_cast<char*>(a.lo) - RED, 0xFB, RED);  // report once
    memset(reinterpret_cast<char*>(a.lo) + a.size, 0xFB, RED);
  }
  if (err_code) my_error = std::string("in kernel ") + k->name + ": " + err_text;
  return err_code;
}
API const KernelInfo* emu_kernel_find(const char* name) {
  for (auto* k = kernels(); k; k = k->next)
    if (!strcmp(k->name, name)) return k;
  return nullptr;
}
API size_t emu_kernel_parameters(const KernelInfo* k, const unsigned** sizes) { *sizes = k->sizes; return size_t(k->nargs); }
API const char* emu_last_error() { return my_error.c_str(); }
API void emu_option(const char* k, long v) {
  std::string s = k;
  if (s == "sched") opt.sched = int(v);
  else if (s == "seed") opt.seed = uint64_t(v);
  else if (s == "workers") opt.workers = int(v);
  else if (s == "strict") opt.strict_barrier = v;
  else if (s == "perf") opt.perf = v;
  else if (s == "cpasync_late") opt.cpasync_late = v;
}
// Requests, average units per request and the ideal, per source line; clears the counts.
API const char* emu_perf_report() {
  static std::string out;
  out.clear();
#ifdef EMU_RACE
  struct Row { uint64_t req = 0, units = 0, ideal = 0; bool sh = false, wr = false; };
  std::map<std::string, Row> rows;
  for (auto& p : perf) {
    std::string s = symbol(p.first);
    s = s.substr(0, s.find(" (disc")) + (p.second.shared ? " shared" : " global") + (p.second.write ? " write" : " read");
    Row& r = rows[s];
    r.req += p.second.requests, r.units += p.second.units, r.ideal += p.second.ideal;
  }
  for (auto& r : rows)
    out += fmt("  %-32s %9lu requests  %6.2f units each, ideal %5.2f%s\n", r.first.c_str(), (unsigned long)r.second.req, double(r.second.units) / double(r.second.req), double(r.second.ideal) / double(r.second.req),
               r.second.units > r.second.ideal * 3 / 2 ? "   <--" : "");
  perf.clear();
#endif
  return out.c_str();
}
API void* emu_alloc(size_t n) {
  std::lock_guard<std::mutex> l(mem_mu);
  void* p = nullptr;
  if (posix_memalign(&p, 256, n + 2 * RED)) return nullptr;
  memset(p, 0xFB, RED);
  char* lo = static_cast<char*>(p) + RED;
  memset(lo + n, 0xFB, RED);
  memset(lo, 0xff, n);  // NaN garbage
  Alloc& a = allocs[uintptr_t(lo)];
  a.lo = uintptr_t(lo), a.size = n, a.raw = static_cast<char*>(p), a.id = next_id++, a.freed = false;
#ifdef EMU_RACE
  a.shadow.reset(new Cell[n / 4 + 2]);
#endif
  return lo;
}
API int emu_free(void* p) {
  std::lock_guard<std::mutex> l(mem_mu);
  auto it = allocs.find(uintptr_t(p));
  if (it == allocs.end() || it->second.freed) return ERR_INVALID;
#ifdef EMU_INSTRUMENTED
  it->second.freed = true;  // quarantined: later accesses are reported as use after free
  memset(p, 0xfd, it->second.size);
  it->second.shadow.reset();
  quarantined += it->second.size;
#else
  free(it->second.raw);
  allocs.erase(it);
#endif
  return 0;
}
static int check_host_range(void* dev, size_t n, Alloc** out) {
  auto it = allocs.upper_bound(uintptr_t(dev));
  if (it == allocs.begin()) return ERR_INVALID;
  Alloc& a = std::prev(it)->second;
  if (a.freed || uintptr_t(dev) - a.lo + n > a.size) return ERR_INVALID;
  *out = &a;
  return 0;
}
static void mark_init(Alloc* a, void* dev, size_t n) {
#ifdef EMU_RACE
  size_t o = uintptr_t(dev) - a->lo;
  for (size_t i = o; i < o + n; ++i) a->shadow[i >> 2].init |= uint8_t(1u << (i & 3));
#else
  (void)a; (void)dev; (void)n;
#endif
}
API int emu_h2d(void* d, const void* h, size_t n) {
  std::lock_guard<std::mutex> l(mem_mu);
  Alloc* a;
  if (int e = check_host_range(d, n, &a)) return e;
  memcpy(d, h, n);
  mark_init(a, d, n);
  return 0;
}
API int emu_d2h(void* h, const void* d, size_t n) {
  std::lock_guard<std::mutex> l(mem_mu);
  Alloc* a;
  if (int e = check_host_range(const_cast<void*>(d), n, &a)) return e;
  memcpy(h, d, n);
  return 0;
}
API int emu_d2d(void* d, const void* s, size_t n) {
  std::lock_guard<std::mutex> l(mem_mu);
  Alloc *a, *b;
  if (int e = check_host_range(const_cast<void*>(s), n, &b)) return e;
  if (int e = check_host_range(d, n, &a)) return e;
  memmove(d, s, n);
  mark_init(a, d, n);
  return 0;
}
API int emu_memset(void* d, const void* value, size_t width, size_t n) {
  std::lock_guard<std::mutex> l(mem_mu);
  Alloc* a;
  if (int e = check_host_range(d, n, &a)) return e;
  for (size_t i = 0; i < n; i += width) memcpy(static_cast<char*>(d) + i, value, width);
  mark_init(a, d, n);
  return 0;
}
API void emu_mark_initialised(void* d, size_t n) {
  std::lock_guard<std::mutex> l(mem_mu);
  Alloc* a;
  if (!check_host_range(d, n, &a)) mark_init(a, d, n);
}

// ------------------------------------------------------------------ compiler callbacks
#define CB extern "C" __attribute__((visibility("hidden"), used)) void
#ifdef EMU_CHECK  // -fsanitize=kernel-address with call threshold 0
#define ASAN_N(n)                                                                             \
  CB __asan_load##n##_noabort(uintptr_t a) { access_aligned(a, n, false, EMU_HERE); }  \
  CB __asan_store##n##_noabort(uintptr_t a) { access_aligned(a, n, true, EMU_HERE); }
ASAN_N(1) ASAN_N(2) ASAN_N(4) ASAN_N(8) ASAN_N(16)
CB __asan_loadN_noabort(uintptr_t a, size_t n) { access(a, unsigned(n), false, false, EMU_HERE); }
CB __asan_storeN_noabort(uintptr_t a, size_t n) { access(a, unsigned(n), true, false, EMU_HERE); }
CB __asan_handle_no_return() {}
// -fsanitize=undefined: every handler's first argument starts with the source location.
struct UbLoc { const char* file; uint32_t line, col; };
static void ub(const char* what, const UbLoc* l) {
  if (self) fail(ERR_MEMORY, fmt("%s: undefined behaviour (%s) at %s:%u", who(self).c_str(), what, l->file, l->line));
}
#define UB(name) CB __ubsan_handle_##name(const UbLoc* l) { ub(#name, l); }
UB(add_overflow) UB(sub_overflow) UB(mul_overflow) UB(negate_overflow) UB(divrem_overflow) UB(shift_out_of_bounds)
UB(out_of_bounds) UB(type_mismatch_v1) UB(vla_bound_not_positive) UB(load_invalid_value) UB(float_cast_overflow)
UB(pointer_overflow) UB(builtin_unreachable) UB(missing_return) UB(nonnull_arg) UB(nonnull_return_v1) UB(invalid_builtin)
struct AsanGlobal { uintptr_t beg; size_t size, padded; const char *name, *module; size_t dynamic_init; void* loc; uintptr_t odr; };
CB __asan_register_globals(AsanGlobal* g, size_t n) {
  for (size_t i = 0; i < n; ++i) vars().push_back({g[i].beg, g[i].size, g[i].padded, g[i].name, strncmp(g[i].name, "emu_reg_", 8) != 0});
}
CB __asan_unregister_globals(AsanGlobal*, size_t) {}
CB __asan_before_dynamic_init(const char*) {}
CB __asan_after_dynamic_init() {}
#endif
#ifdef EMU_RACE  // -fsanitize=thread
#define TSAN_N(n)                                                                      \
  CB __tsan_read##n(uintptr_t a) { access_aligned(a, n, false, EMU_HERE); }            \
  CB __tsan_write##n(uintptr_t a) { access_aligned(a, n, true, EMU_HERE); }            \
  CB __tsan_unaligned_read##n(uintptr_t a) { access(a, n, false, false, EMU_HERE); }  \
  CB __tsan_unaligned_write##n(uintptr_t a) { access(a, n, true, false, EMU_HERE); }  \
  CB __tsan_volatile_read##n(uintptr_t a) { access(a, n, false, false, EMU_HERE); }   \
  CB __tsan_volatile_write##n(uintptr_t a) { access(a, n, true, false, EMU_HERE); }
TSAN_N(1) TSAN_N(2) TSAN_N(4) TSAN_N(8) TSAN_N(16)
CB __tsan_read_range(uintptr_t a, size_t n) { access(a, unsigned(n), false, false, EMU_HERE); }
CB __tsan_write_range(uintptr_t a, size_t n) { access(a, unsigned(n), true, false, EMU_HERE); }
CB __tsan_vptr_update(void**, void*) {}
// guards of __shared__ arrays of __half/__nv_bfloat16 (a gcc quirk; their initialiser is empty)
extern "C" __attribute__((visibility("hidden"))) uint8_t __tsan_atomic8_load(const volatile uint8_t* p, int) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
CB __tsan_init() {}
CB __tsan_func_entry(void*) {}
CB __tsan_func_exit() {}
#endif
