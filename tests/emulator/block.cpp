// The threads of a block: scheduling, barriers, warp operations.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "runtime.h"

namespace emu {
EMU_PER_WORKER ThreadView* self;
EMU_PER_WORKER Worker* worker;
std::atomic<uint32_t> epochs{1};

Worker::Worker() {
  auto reserve = [](size_t bytes) { return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); };
  stacks = static_cast<char*>(reserve(MAX_THREADS * STACK));
  for (unsigned i = 0; i < MAX_THREADS; ++i) mprotect(stacks + i * STACK, 4096, PROT_NONE);
  dynamic = static_cast<char*>(reserve(MAX_SHARED + 4096));
  fibers = new Fiber[MAX_THREADS];
  reset_stacks();
}
void Worker::reset_stacks() {
  free_stacks.clear();
  for (int i = MAX_THREADS; i-- > 0;) free_stacks.push_back(i);  // last in, first out: kernels without barriers use one
}
Fiber* Worker::pop() {
  if (options.sched == 2) std::swap(ring[head & (2 * MAX_THREADS - 1)], ring[(head + unsigned(draw() % count)) & (2 * MAX_THREADS - 1)]);
  --count;
  return &fibers[ring[head++ & (2 * MAX_THREADS - 1)]];
}
void to_scheduler() { emu_switch(&me()->stack_pointer, worker->stack_pointer); }
void yield() {
  me()->state = READY;
  worker->push(me());
  to_scheduler();
}
static void entry() {
  worker->kernel->call(worker->arguments);
  me()->state = DONE;
  to_scheduler();
  __builtin_unreachable();
}

// ---------------------------------------------------------------- barriers
static void release(Barrier& b) {
  Worker& w = *worker;
  b.result = b.count;
  b.arrived = b.count = 0;
  w.block.epoch = epochs++;
  for (unsigned i = 0; i < w.block.threads; ++i) {
    Fiber& f = w.fibers[i];
    if (f.state == AT_BARRIER) f.state = READY, w.push(&f);
  }
}
unsigned block_barrier_count(const void* site, bool predicate) {
  Block& block = worker->block;
  Barrier& b = block.barrier;
  // The compiler may have made two of one barrier.
  if (b.arrived && b.site != site && line_of(b.site) != line_of(site))
    fail(LAUNCH_FAILED, format("divergent barrier: %s is at %s while others wait at %s", who(self).c_str(), line_of(site).c_str(), line_of(b.site).c_str()));
  b.site = site;
  b.count += predicate;
  if (++b.arrived == block.live) {
    if (block.live != block.threads)
      fail(LAUNCH_FAILED, format("the barrier at %s is reached by %u of %u threads (the others have returned)", line_of(site).c_str(), block.live, block.threads));
    release(b);
  } else {
    me()->state = AT_BARRIER;
    me()->site = site;
    to_scheduler();
  }
  return b.result;
}
void block_barrier(const void* site) { block_barrier_count(site, false); }

// ---------------------------------------------------------------- warp operations
// Only __syncwarp orders memory: the lanes join what they know of each other.
static void join(unsigned first, unsigned lanes) {
  Fiber* fibers = worker->fibers + first;
  uint32_t joined[32] = {};
  for (unsigned l = 0; l < 32; ++l) {
    if (!(lanes >> l & 1)) continue;
    fibers[l].known[l] = fibers[l].clock;
    for (int i = 0; i < 32; ++i) joined[i] = std::max(joined[i], fibers[l].known[i]);
  }
  for (unsigned l = 0; l < 32; ++l)
    if (lanes >> l & 1) memcpy(fibers[l].known, joined, sizeof joined), fibers[l].clock++;
}
static void complete(unsigned warp, Exchange& e) {
  Worker& w = *worker;
  e.present[e.generation & 1] = e.arrived;
  if (e.op == SYNCWARP) join(warp * 32, e.arrived);
  for (unsigned l = 0; l < 32; ++l) {
    Fiber& f = w.fibers[warp * 32 + l];
    if ((e.arrived >> l & 1) && f.state == IN_EXCHANGE && f.exchange == &e) f.state = READY, w.push(&f);
  }
  e.arrived = 0;
  e.generation++;
}
const Slot* warp_exchange(unsigned mask, WarpOp op, const void* payload, size_t n, const void* site, unsigned* present) {
  Fiber* f = me();
  Warp& warp = worker->block.warps[f->warp];
  if (!(mask >> f->lane & 1)) fail(LAUNCH_FAILED, format("%s at %s: lane %u is not in its own mask %08x", who(f).c_str(), line_of(site).c_str(), f->lane, mask));
  Exchange* found = nullptr;
  for (auto& e : warp.exchanges)
    if (e->mask == mask) found = e.get();
  if (!found) {
    warp.exchanges.push_back(std::make_unique<Exchange>());
    found = warp.exchanges.back().get();
    found->mask = mask;
  }
  Exchange& e = *found;
  if (!e.arrived) e.op = op, e.site = site;
  else if (e.op != op) fail(LAUNCH_FAILED, format("%s at %s: not the warp operation in which its warp waits at %s", who(f).c_str(), line_of(site).c_str(), line_of(e.site).c_str()));
  unsigned buffer = e.generation & 1;
  memcpy(e.slots[buffer][f->lane], payload, n);
  e.arrived |= 1u << f->lane;
  if (mask & warp.exited)
    fail(LAUNCH_FAILED, format("%s at %s: mask %08x names lanes that have returned (%08x)", who(f).c_str(), line_of(site).c_str(), mask, mask & warp.exited));
  if (e.arrived == (mask & ~warp.missing)) complete(f->warp, e);
  else {
    f->state = IN_EXCHANGE;
    f->exchange = &e;
    f->site = site;
    to_scheduler();
  }
  *present = e.present[buffer];
  return e.slots[buffer];
}
void sync_warp(unsigned mask, const void* site) {
  unsigned present;
  char nothing = 0;
  warp_exchange(mask, SYNCWARP, &nothing, 1, site, &present);
}

// ---------------------------------------------------------------- the block
void Worker::start(Fiber* f) {
  f->stack = free_stacks.back();
  free_stacks.pop_back();
  f->stack_pointer = new_context(f->stack_pointer, stacks + size_t(f->stack) * STACK + 4096, STACK - 4096, entry);
  f->state = READY;
}
void Worker::finished(Fiber* f) {
  free_stacks.push_back(f->stack);
  --block.live;
  Warp& warp = block.warps[f->warp];
  warp.exited |= 1u << f->lane;
  auto wrong = [&](const std::string& message) { report(LAUNCH_FAILED, message), failed = true; };
  if (!f->copies.empty()) wrong(who(f) + " returned with asynchronous copies that it never waited for");
  for (auto& e : warp.exchanges)
    if (e->arrived && (e->mask >> f->lane & 1)) wrong(format("%s returned while its warp waits for it at %s (mask %08x)", who(f).c_str(), line_of(e->site).c_str(), e->mask));
  Barrier& b = block.barrier;
  if (b.arrived && b.arrived == block.live) wrong(format("the barrier at %s is reached by %u of %u threads (the others have returned)", line_of(b.site).c_str(), b.arrived, block.threads));
}
void Worker::run_block(const uint3& index, unsigned linear) {
  const dim3 size = fibers[0].bdim;
  block.threads = block.live = size.x * size.y * size.z;
  block.index = linear;
  block.epoch = epochs++;
  block.barrier = Barrier();
  for (unsigned i = 0; i < 32; ++i) {
    unsigned lanes = block.threads > i * 32 ? std::min(32u, block.threads - i * 32) : 0;
    block.warps[i].missing = lanes == 32 ? 0 : ~((1u << lanes) - 1);
    block.warps[i].exited = 0;
  }
#ifdef EMU_RACE
  begin_race_block();
#endif
  head = count = 0;
  for (unsigned n = 0; n < block.threads; ++n) {
    unsigned i = options.sched == 1 ? block.threads - 1 - n : n;
    Fiber& f = fibers[i];
    f.tid = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    f.bid = index;
    f.index = i, f.lane = i & 31, f.warp = i >> 5;
    f.state = NEW;
    f.atomics = f.copy_group = f.fenced = 0;
    f.clock = 1;
    memset(f.known, 0, sizeof f.known);
    f.copies.clear();
    push(&f);
  }
  while (count && !failed) {
    Fiber* f = pop();
    if (f->state == NEW) start(f);
    self = f;
    emu_switch(&stack_pointer, f->stack_pointer);
    if (f->state == DONE) finished(f);
  }
  self = nullptr;
  if (!failed && block.live) {
    std::map<const void*, unsigned> sites;
    for (unsigned i = 0; i < block.threads; ++i)
      if (fibers[i].state != DONE) sites[fibers[i].site]++;
    std::string message = format("deadlock in block (%u,%u,%u):", index.x, index.y, index.z);
    for (auto& s : sites) message += format(" %u threads wait at %s;", s.second, line_of(s.first).c_str());
    report(LAUNCH_FAILED, message);
    failed = true;
  }
  if (!failed) return;
  reset_stacks();  // the abandoned threads' stacks are simply used again
  for (auto& warp : block.warps) warp.exchanges.clear();
}
void fence() {
  __sync_synchronize();
  me()->fenced = worker->block.epoch;
}
void* dynamic_shared() { return worker->block.dynamic; }
}  // namespace emu
