// Launches: the list of kernels, and blocks given to workers.
#include <signal.h>

#include <condition_variable>
#include <cstdlib>
#include <thread>

#include "runtime.h"

namespace emu {
static KernelInfo*& kernels() {
  static KernelInfo* first;
  return first;
}
void register_kernel(KernelInfo* k) {
  k->next = kernels();
  kernels() = k;
}

// A signal in a kernel gives the launch up, as an illegal address does on a GPU. Elsewhere the handler before ours has it, which may
// be that of another flavour in the process.
static struct sigaction earlier[32];
static void on_signal(int signal, siginfo_t* info, void* context) {
  if (!self || !worker) {
    auto& before = earlier[signal];
    if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(signal, info, context);
    else sigaction(signal, &before, nullptr);
    return;
  }
  auto address = uintptr_t(info->si_addr);
  const char* what = address - uintptr_t(worker->stacks) < MAX_THREADS * STACK ? "stack overflow" : strsignal(signal);
  fail(ILLEGAL_ADDRESS, format("%s: %s at address %p", who(self).c_str(), what, info->si_addr));
}
static void install_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(s, &action, &earlier[s]);
  });
  static thread_local std::unique_ptr<char[]> stack;
  stack_t current;
  if (!stack && !sigaltstack(nullptr, &current) && current.ss_flags & SS_DISABLE) {
    stack = std::make_unique<char[]>(65536);
    current = {};
    current.ss_sp = stack.get(), current.ss_size = 65536;
    sigaltstack(&current, nullptr);
  }
}

struct Job {
  const KernelInfo* kernel;
  dim3 grid, size;
  unsigned shared;
  void** arguments;
  unsigned blocks, launch;
  std::atomic<unsigned> next{0};
};
static void run_blocks(Job& job) {
  static thread_local std::unique_ptr<Worker> own;
  if (!own) own = std::make_unique<Worker>();
  Worker& w = *own;
  install_handlers();
  worker = &w;
  w.kernel = job.kernel, w.arguments = job.arguments, w.failed = false;
  w.block.launch = job.launch, w.block.dynamic = w.dynamic, w.block.dynamic_size = job.shared;
  for (unsigned i = 0; i < job.size.x * job.size.y * job.size.z; ++i) w.fibers[i].bdim = job.size, w.fibers[i].gdim = job.grid;
  for (unsigned b; (b = job.next++) < job.blocks && !w.failed;) {
    w.random = uint64_t(options.seed) * 0x9e3779b97f4a7c15ull + b * 0xd1b54a32d192ed03ull + 1;
#ifdef EMU_INSTRUMENTED
    poison_shared(job.shared);
#else
    memset(w.block.dynamic, 0xff, job.shared);
#endif
    w.run_block({b % job.grid.x, b / job.grid.x % job.grid.y, b / (job.grid.x * job.grid.y)}, b);
#ifdef EMU_RACE
    if (options.lint) lint_block_end();
#endif
  }
  if (w.failed) job.next = job.blocks;
}
#ifdef EMU_FAST
// Threads that run blocks beside the launching one. They outlive main: never joined.
struct Pool {
  std::mutex mutex;
  std::condition_variable started, finished;
  Job* job = nullptr;
  unsigned generation = 0, busy = 0, threads = 0;

  void loop() {
    unsigned seen = 0;
    for (;;) {
      Job* mine;
      {
        std::unique_lock<std::mutex> lock(mutex);
        started.wait(lock, [&] { return generation != seen; });
        seen = generation;
        if (!(mine = job)) continue;
        ++busy;
      }
      run_blocks(*mine);
      std::lock_guard<std::mutex> lock(mutex);
      if (!--busy) finished.notify_all();
    }
  }
  void run(Job& j, unsigned workers) {
    if (workers > 1) {
      std::lock_guard<std::mutex> lock(mutex);
      for (; threads + 1 < workers; ++threads) std::thread([this] { loop(); }).detach();
      job = &j;
      ++generation;
      started.notify_all();
    }
    run_blocks(j);
    if (workers == 1) return;
    std::unique_lock<std::mutex> lock(mutex);
    job = nullptr;
    finished.wait(lock, [&] { return busy == 0; });
  }
};
#endif
static void run(Job& job) {
#ifdef EMU_FAST
  static Pool* pool = new Pool;
  unsigned workers = options.workers ? unsigned(options.workers) : std::max(1u, std::thread::hardware_concurrency());
  pool->run(job, std::min(workers, job.blocks));
#else
  run_blocks(job);
#endif
}
static std::string last_error;
}  // namespace emu
using namespace emu;

EMU_EXPORT int emu_launch_info(const KernelInfo* kernel, const unsigned grid[3], const unsigned block[3], unsigned shared, void** arguments) {
  static std::mutex one_at_a_time;
  static unsigned launches;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  clear_reports();
  uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
  if (blocks > 0x7fffffff) {
    last_error = format("%s: a grid of more blocks than the emulator can run", kernel->name);
    return INVALID_VALUE;
  }
  {
    std::lock_guard<std::mutex> memory(memory_mutex);
    prepare_allocations();
  }
#ifdef EMU_INSTRUMENTED
  prepare_checks();
#endif
#ifdef EMU_RACE
  begin_race_launch();
#endif
  Job job{kernel, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, arguments, unsigned(blocks), ++launches};
  run(job);
  check_canaries(arguments, kernel);
  std::string text;
  Code code = first_report(&text);
  if (code) last_error = format("kernel %s, grid (%u,%u,%u), block (%u,%u,%u): ", kernel->name, grid[0], grid[1], grid[2], block[0], block[1], block[2]) + text;
  return code;
}
EMU_EXPORT const KernelInfo* emu_kernel_find(const char* name) {
  for (auto* k = kernels(); k; k = k->next)
    if (!strcmp(k->name, name)) return k;
  return nullptr;
}
EMU_EXPORT size_t emu_kernel_parameters(const KernelInfo* k, const unsigned** sizes) {
  *sizes = k->sizes;
  return k->count;
}
EMU_EXPORT const char* emu_last_error() { return last_error.c_str(); }
