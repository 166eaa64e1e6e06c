// What the runtime's files share: threads of a block as fibers, device memory, reports. The runtime is never instrumented.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "launch.h"
#include "shim.h"

namespace emu {

// ---------------------------------------------------------------- reports
struct Options {
  long sched = 0;  // order of the threads: 0 forward, 1 reverse, 2 random
  long seed = 1;
  long workers = 0;  // of `fast`; 0: all cores
  long lint = 0;     // of `race`: count sectors and bank conflicts
};
extern Options options;
// The driver's codes. What a GPU would not notice is a failed launch.
enum Code { INVALID_VALUE = 1, ILLEGAL_ADDRESS = 700, ASSERT = 710, MISALIGNED = 716, LAUNCH_FAILED = 719 };

std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
std::string line_of(const void* site);  // "file.cu:12"
std::string who(const ThreadView*);
void report(Code, const std::string&);
bool reports_left();  // a launch with many errors describes the first few
// Gives the launch up: the calling fiber never goes on.
[[noreturn]] void fail(Code, const std::string&);
void clear_reports();
Code first_report(std::string* text);

// ---------------------------------------------------------------- device memory
constexpr size_t CANARY = 256;  // bytes around every allocation whose change is noticed
struct Shadow;                  // what `race` remembers of each 4-byte word
struct Allocation {
  uintptr_t start;
  size_t size;
  char* raw;
  int number;
  bool freed;
  Shadow* shadow;
  std::vector<uint8_t> initialised;  // `race`: a bit for each byte, four to an element
};
extern std::mutex memory_mutex;
Allocation* find_allocation(uintptr_t);  // also just before or after it; while a kernel runs
void prepare_allocations();
std::string describe_allocation(uintptr_t);
void check_canaries(void** arguments, const KernelInfo*);

// ---------------------------------------------------------------- threads
struct Exchange {  // a warp operation in progress; double-buffered, for a lane can be one ahead
  unsigned mask = 0, arrived = 0, generation = 0, present[2] = {};
  WarpOp op = SHFL_IDX;
  const void* site = nullptr;
  Slot slots[2][32];
};
struct Warp {
  unsigned missing = 0, exited = 0;  // lanes that never existed, and that have returned
  std::vector<std::unique_ptr<Exchange>> exchanges;  // one for each mask
};
struct Barrier {
  unsigned arrived = 0, count = 0, result = 0;
  const void* site = nullptr;
};
struct Block {
  unsigned threads = 0, live = 0, index = 0, launch = 0;
  uint32_t epoch = 0;  // advanced by every barrier
  Barrier barrier;
  Warp warps[32];
  char* dynamic = nullptr;
  size_t dynamic_size = 0;
};
enum State : uint8_t { NEW, READY, AT_BARRIER, IN_EXCHANGE, DONE };
struct Copy { void* to; const void* from; int bytes, valid; unsigned group; const void* site; };
struct Fiber : ThreadView {
  void* stack_pointer = nullptr;
  int stack = -1;
  State state = NEW;
  const void* site = nullptr;  // where it waits
  Exchange* exchange = nullptr;
  unsigned atomics = 0, copy_group = 0;
  uint32_t fenced = 0;       // the block's epoch at its last __threadfence
  uint32_t clock = 1;        // advanced at every synchronisation of the warp
  uint32_t known[32] = {};   // the latest clock of each lane that this one is ordered after
  std::vector<Copy> copies;  // asynchronous, not yet waited for
};
constexpr unsigned MAX_THREADS = 1024;
constexpr size_t STACK = 64 << 10;
constexpr size_t MAX_SHARED = 232448;  // 227 KiB

struct Worker {
  char* stacks;  // the lowest page of each is a guard
  char* dynamic;
  Fiber* fibers;
  std::vector<int> free_stacks;
  uint16_t ring[2 * MAX_THREADS];  // of threads that can run
  unsigned head = 0, count = 0;
  void* stack_pointer = nullptr;
  Block block;
  const KernelInfo* kernel = nullptr;
  void** arguments = nullptr;
  uint64_t random = 1;
  bool failed = false;

  Worker();
  void run_block(const uint3& index, unsigned linear);
  void push(Fiber* f) { ring[(head + count++) & (2 * MAX_THREADS - 1)] = uint16_t(f->index); }
  Fiber* pop();
  uint64_t draw() { return random ^= random << 13, random ^= random >> 7, random ^= random << 17; }
  void start(Fiber*);
  void finished(Fiber*);
  void reset_stacks();
};
extern EMU_PER_WORKER Worker* worker;
inline Fiber* me() { return static_cast<Fiber*>(self); }
void to_scheduler();
void yield();
extern std::atomic<uint32_t> epochs;

// Stacks (context.cpp).
extern "C" void emu_switch(void** save, void* to);
void* new_context(void* previous, char* stack, size_t bytes, void (*entry)());

// ---------------------------------------------------------------- checks of accesses (check and race)
void prepare_checks();
void poison_shared(size_t dynamic_bytes);
// One access of the current thread.
void access(uintptr_t, unsigned bytes, bool write, bool atomic, const void* site);
#ifdef EMU_RACE
void begin_race_launch();
Shadow* new_shadow(size_t bytes);
void free_shadow(Shadow*, size_t bytes);
void shadow_global(Allocation*, uintptr_t, unsigned bytes, bool write, bool atomic, const void* site);
void shadow_shared(bool dynamic, uintptr_t offset, uintptr_t, unsigned bytes, bool write, bool atomic, const void* site);
void forget_initialised(uintptr_t shared, unsigned bytes);
void shadow_forget(bool dynamic, uintptr_t offset, unsigned bytes);
void size_shared_shadow(size_t static_bytes);
void publish(uintptr_t atomic);
void begin_race_block();
void lint_access(uintptr_t, unsigned bytes, bool write, bool shared, const void* site);
void lint_block_end();
#endif
}  // namespace emu
#define EMU_EXPORT extern "C" __attribute__((visibility("default")))
