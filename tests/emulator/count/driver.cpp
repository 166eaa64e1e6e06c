// A CUDA driver that runs nothing. It answers the calls that src/device/cuda makes, counts what is launched and captured, and refuses what
// a test names: so tests see what the host does, at once and for work of any size. Memory reads as zeros. Its clock advances by a
// microsecond with each kernel, copy and fill, so that measured times are counts of them.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unistd.h>

#define CU extern "C" __attribute__((visibility("default"))) int

namespace {
enum Status : int {
  SUCCESS = 0,
  ILLEGAL_ADDRESS = 700,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
};
using Address = uint64_t;

// A graph's nodes, and how many of them the longest chain has. A node is told by the length of the longest chain that it ends.
struct Graph { long nodes, chain; };
struct Function { std::string name; };
struct Event {
  double at;
  long graph_launches;  // before it
};

std::mutex mutex;
std::map<std::string, int> refused;  // codes by calls
std::map<std::string, long> counts;
Graph* capturing;
long ends;        // the longest chain that the next node follows, and then ends
void* last_node;  // that, as a handle
bool spoiled;
int fault;     // what every call answers after a kernel that faulted
double clock_;  // milliseconds
Address next = Address(7) << 44;

// Kernels that misbehave, by their names: for processes that a test starts.
bool is(const char* variable, const std::string& kernel) {
  const char* named = getenv(variable);
  return named && kernel == named;
}
int allowed(const char* call) {
  if (fault) return fault;
  auto it = refused.find(call);
  if (it == refused.end()) return SUCCESS;
  if (capturing) spoiled = true;
  return it->second;
}
// For what no capture may hold, by the driver's manual or because src/device/cuda promises to have done it before.
int before_capture(const char* call) {
  if (int code = allowed(call)) return code;
  if (!capturing) return SUCCESS;
  spoiled = true;
  return CAPTURE_UNSUPPORTED;
}
// A line for what a graph gets: the work, and its blocks.
void list(const std::string& what, unsigned blocks) {
  static FILE* file = getenv("STRAIT_COUNTING_LIST") ? fopen(getenv("STRAIT_COUNTING_LIST"), "a") : nullptr;
  if (file) fprintf(file, "%s %u\n", what.c_str(), blocks), fflush(file);
}
int work(const char* call, const std::string& what = "", unsigned blocks = 1) {
  if (int code = allowed(call)) return code;
  if (spoiled) return CAPTURE_INVALIDATED;
  if (capturing) {
    capturing->nodes += 1;
    capturing->chain = std::max(capturing->chain, ++ends);
    list(what.empty() ? call : what, blocks);
  }
  else clock_ += 1e-3, counts["launches"] += 1;
  return SUCCESS;
}
}  // namespace
using Lock = std::lock_guard<std::mutex>;

// Has a call answer with this code from now on; 0: as before.
extern "C" __attribute__((visibility("default"))) void counting_refuse(const char* call, int code) {
  Lock lock(mutex);
  if (code) refused[call] = code;
  else refused.erase(call);
}
// `graphs` that were made, `nodes` of the last one, `graph_launches`, `graph_nodes` launched by them and their `graph_chains`, `launches`
// outside of graphs, `early_edges` of captured kernels that may be launched before another ended, `waits` for events, and `waits_beside_work`: those during which a graph could run that was launched later.
extern "C" __attribute__((visibility("default"))) long counting_count(const char* what) {
  Lock lock(mutex);
  return counts[what];
}

CU cuInit(unsigned) { return SUCCESS; }
CU cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
CU cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
CU cuDeviceGet(int* device, int) { return *device = 0, SUCCESS; }
CU cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 75 ? 9 : attribute == 16 ? 132 : 0;  // capability 9.0, 132 multiprocessors: plans are those of an H100 or H200
  return SUCCESS;
}
CU cuDeviceGetName(char* name, int length, int) { return snprintf(name, size_t(length), "strait counting driver"), SUCCESS; }
CU cuDevicePrimaryCtxRetain(void** context, int) { return *context = &counts, SUCCESS; }
CU cuCtxSetCurrent(void*) { return SUCCESS; }
CU cuStreamCreate(void** stream, unsigned) { return *stream = &next, SUCCESS; }
CU cuStreamSynchronize(void*) { Lock lock(mutex); return before_capture("cuStreamSynchronize"); }

CU cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = *total = size_t(140) << 30, SUCCESS; }
CU cuMemAlloc_v2(Address* out, size_t bytes) {
  Lock lock(mutex);
  *out = next;
  next += (bytes + 1023) / 512 * 512;
  return before_capture("cuMemAlloc_v2");
}
CU cuMemFree_v2(Address) { return SUCCESS; }
CU cuMemHostAlloc(void** out, size_t bytes, unsigned) { Lock lock(mutex); *out = calloc(1, bytes); return before_capture("cuMemHostAlloc"); }
CU cuMemFreeHost(void* memory) { return free(memory), SUCCESS; }
CU cuMemcpyHtoDAsync_v2(Address, const void*, size_t, void*) { Lock lock(mutex); return before_capture("cuMemcpyHtoDAsync_v2"); }
CU cuMemcpyDtoHAsync_v2(void* to, Address, size_t bytes, void*) {
  Lock lock(mutex);
  memset(to, 0, bytes);
  return before_capture("cuMemcpyDtoHAsync_v2");
}
CU cuMemcpyDtoDAsync_v2(Address, Address, size_t, void*) { Lock lock(mutex); return work("cuMemcpyDtoDAsync_v2"); }
CU cuMemsetD8Async(Address, unsigned char, size_t, void*) { Lock lock(mutex); return work("cuMemsetD8Async"); }
CU cuMemsetD16Async(Address, unsigned short, size_t, void*) { Lock lock(mutex); return work("cuMemsetD16Async"); }
CU cuMemsetD32Async(Address, unsigned, size_t, void*) { Lock lock(mutex); return work("cuMemsetD32Async"); }

CU cuModuleLoadDataEx(void** module, const void*, unsigned, int*, void**) { Lock lock(mutex); *module = &refused; return before_capture("cuModuleLoadDataEx"); }
CU cuModuleGetFunction(Function** out, void*, const char* name) {
  Lock lock(mutex);
  *out = new Function{name};  // kept for ever, as the library keeps it
  return before_capture("cuModuleGetFunction");
}
CU cuFuncSetAttribute(Function*, int, int) { Lock lock(mutex); return allowed("cuFuncSetAttribute"); }
CU cuLaunchKernel(Function* f, unsigned x, unsigned y, unsigned z, unsigned, unsigned, unsigned, unsigned, void*, void**, void**) {
  Lock lock(mutex);
  if (is("STRAIT_COUNTING_FAULT", f->name)) fault = ILLEGAL_ADDRESS;
  if (is("STRAIT_COUNTING_ABORT", f->name)) _exit(134);
  if (is("STRAIT_COUNTING_HANG", f->name)) pause();
  return work("cuLaunchKernel", f->name, x * y * z);
}

CU cuStreamBeginCapture_v2(void*, int) {
  Lock lock(mutex);
  if (int code = allowed("cuStreamBeginCapture_v2")) return code;
  capturing = new Graph{0, 0};
  ends = 0;
  list("", 0);
  spoiled = false;
  return SUCCESS;
}
CU cuStreamEndCapture(void*, Graph** out) {
  Lock lock(mutex);
  int code = allowed("cuStreamEndCapture");
  if (!code && spoiled) code = CAPTURE_INVALIDATED;
  if (code) delete capturing, capturing = nullptr;
  *out = capturing;
  capturing = nullptr, spoiled = false;
  return code;
}
struct Edge { unsigned char from, to, type, reserved[5]; };
CU cuStreamUpdateCaptureDependencies_v2(void*, void** nodes, const Edge* edges, size_t count, unsigned flags) {
  Lock lock(mutex);
  if (int code = allowed("cuStreamUpdateCaptureDependencies_v2")) return code;
  if (flags == 1) ends = 0;
  for (size_t i = 0; i < count; ++i) {
    ends = std::max(ends, long(reinterpret_cast<intptr_t>(nodes[i])));
    counts["early_edges"] += edges && edges[i].type == 1;
  }
  return SUCCESS;
}
CU cuStreamGetCaptureInfo_v3(void*, int*, uint64_t*, Graph**, void*** nodes, const void**, size_t* count) {
  Lock lock(mutex);
  if (int code = allowed("cuStreamGetCaptureInfo_v3")) return code;
  last_node = reinterpret_cast<void*>(intptr_t(ends));
  *nodes = &last_node, *count = 1;
  return SUCCESS;
}
CU cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) {
  Lock lock(mutex);
  if (int code = allowed("cuGraphInstantiateWithFlags")) return code;
  counts["graphs"] += 1;
  counts["nodes"] = graph->nodes;
  *exec = new Graph{*graph};
  return SUCCESS;
}
CU cuGraphLaunch(Graph* exec, void*) {
  Lock lock(mutex);
  if (int code = before_capture("cuGraphLaunch")) return code;
  counts["graph_launches"] += 1;
  counts["graph_nodes"] += exec->nodes;
  counts["graph_chains"] += exec->chain;
  clock_ += 1e-3 * double(exec->nodes);
  return SUCCESS;
}
CU cuGraphDestroy(Graph* graph) { return delete graph, SUCCESS; }
CU cuGraphExecDestroy(Graph* exec) { return delete exec, SUCCESS; }

CU cuEventCreate(Event** out, unsigned) { return *out = new Event{0, 0}, SUCCESS; }
CU cuEventRecord(Event* event, void*) {
  Lock lock(mutex);
  *event = {clock_, counts["graph_launches"]};
  return allowed("cuEventRecord");
}
CU cuEventSynchronize(Event* event) {
  Lock lock(mutex);
  counts["waits"] += 1;
  counts["waits_beside_work"] += counts["graph_launches"] > event->graph_launches;
  return allowed("cuEventSynchronize");
}
CU cuEventElapsedTime_v2(float* milliseconds, Event* a, Event* b) { return *milliseconds = float(b->at - a->at), SUCCESS; }
CU cuEventDestroy_v2(Event* event) { return delete event, SUCCESS; }

CU cuGetErrorName(int code, const char** name) {
  *name = code == ILLEGAL_ADDRESS       ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : code == CAPTURE_UNSUPPORTED ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
          : code == CAPTURE_INVALIDATED ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                                        : "CUDA_ERROR_NOT_PERMITTED";
  return SUCCESS;
}
CU cuGetErrorString(int, const char** text) { return *text = "refused by the counting driver", SUCCESS; }
