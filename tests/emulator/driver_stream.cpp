// Streams, events, capture, graphs. Work runs when it is submitted, or, with STRAIT_EMU_LAZY=1, at the next synchronisation.
#include <algorithm>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>

#include "driver.h"

namespace driver {
struct Graph { std::vector<std::shared_ptr<Node>> nodes; };
struct GraphExec {
  std::vector<std::shared_ptr<Node>> nodes;
  bool free_on_launch = false;
};
// A capture in progress: the streams that take part, each with the number of nodes at its last one.
struct Capture {
  Graph* graph;
  Stream* origin;
  std::thread::id thread;
  int mode;
  bool spoiled = false;
  std::vector<std::pair<Stream*, size_t>> joined;  // other streams: nodes up to their last one
  size_t seen = 0;                                 // nodes that the origin depends on
  std::vector<Node*> last;                         // what its next node needs, unless other streams take part
  bool early = false;                              // whether a kernel must follow, which may be launched before these ended
};
struct Stream {
  std::vector<Node> queue;
  std::shared_ptr<Capture> capture;
};
struct Event {
  bool timed = true, recorded = false;
  double at = 0;
  Stream* stream = nullptr;
  std::shared_ptr<Capture> capture;  // recorded while its stream was being captured
  size_t node = 0;
};

static std::recursive_mutex mutex;
static std::set<Stream*> streams;
static std::vector<std::shared_ptr<Capture>> captures;
static Stream null_stream;

// 0, 1 and 2 are the driver's own: legacy, legacy, per thread (here: one).
static Stream* resolve(Stream* s) { return reinterpret_cast<uintptr_t>(s) <= 2 ? &null_stream : s; }
static int checked(Stream* s) {
  return resolve(s) == &null_stream || streams.count(s) ? SUCCESS : failed(INVALID_HANDLE, "not a stream");
}
bool capturing(Stream* s) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return resolve(s)->capture != nullptr;
}
static int spoil(Capture& c, const char* call) {
  c.spoiled = true;
  return failed(CAPTURE_UNSUPPORTED, std::string(call) + " during a stream capture");
}
int forbidden_in_capture(Stream* s, const char* call) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  auto capture = resolve(s)->capture;
  return capture ? spoil(*capture, call) : SUCCESS;
}
// Mode 0 (global) forbids unsafe calls on every thread, 1 (thread local) on the capturing one, 2 (relaxed) nowhere.
int unsafe_in_capture(const char* call) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  for (auto& c : captures)
    if (c->mode == 0 || (c->mode == 1 && c->thread == std::this_thread::get_id())) return spoil(*c, call);
  return SUCCESS;
}
int drain(Stream* s) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  auto work = std::move(resolve(s)->queue);
  resolve(s)->queue.clear();
  int code = SUCCESS;
  for (auto& node : work)
    if (!code) code = node.run();
  return code ? code : remembered_fault();
}
int drain_all() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  int code = drain(nullptr);
  for (auto* s : streams)
    if (int c = drain(s)) code = code ? code : c;
  return code;
}
int submit(Stream* handle, Node node) {
  std::unique_lock<std::recursive_mutex> lock(mutex);
  if (int code = checked(handle)) return code;
  Stream* s = resolve(handle);
  if (!s->capture) {
    if (settings().lazy) return s->queue.push_back(std::move(node)), SUCCESS;
    return node.run();
  }
  Capture& c = *s->capture;
  if (c.spoiled) return failed(CAPTURE_INVALIDATED, "the capture was invalidated by an earlier error");
  if (node.type == FREE) {
    auto same = [&](auto& n) { return n->type == ALLOC && n->address == node.address; };
    auto& nodes = c.graph->nodes;
    auto made = std::find_if(nodes.begin(), nodes.end(), same);
    if (made == nodes.end()) return failed(INVALID_VALUE, "cuMemFreeAsync in a capture of memory that the graph did not allocate");
    auto allocation = *made;
    node.run = [allocation] { return allocation->live = false, SUCCESS; };
  }
  auto& nodes = c.graph->nodes;
  if (c.early && node.type != KERNEL) return failed(INVALID_VALUE, "only a kernel can be launched before what it depends on has ended");
  c.early = false;
  // With several streams, nodes run as they were captured.
  if (c.joined.empty()) node.needs = c.last;
  else if (!nodes.empty()) node.needs = {nodes.back().get()};
  nodes.push_back(std::make_shared<Node>(std::move(node)));
  c.last = {nodes.back().get()};
  if (s == c.origin) c.seen = c.graph->nodes.size();
  for (auto& j : c.joined)
    if (j.first == s) j.second = c.graph->nodes.size();
  return SUCCESS;
}
// The nodes in an order that their needs allow, another one each time.
static std::vector<std::shared_ptr<Node>> some_order(const std::vector<std::shared_ptr<Node>>& nodes) {
  static uint64_t random = 1;
  std::unordered_map<const Node*, size_t> index;
  for (size_t i = 0; i < nodes.size(); ++i) index[nodes[i].get()] = i;
  std::vector<std::vector<size_t>> followers(nodes.size());
  std::vector<size_t> missing(nodes.size()), ready;
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Node* before : nodes[i]->needs) followers[index.at(before)].push_back(i);
    if ((missing[i] = nodes[i]->needs.size()) == 0) ready.push_back(i);
  }
  std::vector<std::shared_ptr<Node>> order;
  while (!ready.empty()) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(ready[(random >> 33) % ready.size()], ready.back());
    const size_t next = ready.back();
    ready.pop_back();
    order.push_back(nodes[next]);
    for (size_t follower : followers[next])
      if (--missing[follower] == 0) ready.push_back(follower);
  }
  return order;
}
static void leave(Capture& c) {
  c.origin->capture = nullptr;
  for (auto& j : c.joined) j.first->capture = nullptr;
}
static double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
}  // namespace driver
using namespace driver;
using Lock = std::lock_guard<std::recursive_mutex>;

CU cuStreamCreate(Stream** out, unsigned) {
  if (int code = usable()) return code;
  Lock lock(driver::mutex);
  streams.insert(*out = new Stream);
  return SUCCESS;
}
CU cuStreamCreateWithPriority(Stream** out, unsigned flags, int) { return cuStreamCreate(out, flags); }
CU cuStreamDestroy_v2(Stream* s) {
  Lock lock(driver::mutex);
  if (!streams.count(s)) return failed(INVALID_HANDLE, "not a stream");
  int code = drain(s);
  streams.erase(s);
  delete s;
  return code;
}
CU cuStreamSynchronize(Stream* s) {
  if (int code = usable()) return code;
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  if (int code = forbidden_in_capture(s, "cuStreamSynchronize")) return code;
  return drain(s);
}
CU cuStreamQuery(Stream* s) { return cuStreamSynchronize(s); }
CU cuStreamWaitEvent(Stream* s, Event* e, unsigned) {
  if (int code = usable()) return code;
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  Stream* stream = resolve(s);
  if (e->capture) {  // the waiting stream joins the capture, or the origin takes the other's work in
    if (stream->capture && stream->capture != e->capture) return stream->capture->spoiled = true, failed(CAPTURE_ISOLATION, "an event of another capture");
    Capture& c = *e->capture;
    if (!stream->capture) stream->capture = e->capture, c.joined.push_back({stream, e->node});
    else if (stream == c.origin) c.seen = std::max(c.seen, e->node);
    return SUCCESS;
  }
  if (stream->capture) {
    stream->capture->spoiled = true;
    return failed(CAPTURE_ISOLATION, "a captured stream waits for an event from before the capture");
  }
  Stream* other = e->stream;
  if (!settings().lazy || !other || other == stream) return SUCCESS;
  stream->queue.push_back({HOST, [other] { return streams.count(other) || other == &null_stream ? drain(other) : SUCCESS; }});
  return SUCCESS;
}
CU cuStreamBeginCapture_v2(Stream* s, int mode) {
  if (int code = usable()) return code;
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  if (resolve(s) == &null_stream) return failed(CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
  if (s->capture) return failed(ILLEGAL_STATE, "the stream is being captured already");
  if (int code = drain(s)) return code;
  auto capture = std::make_shared<Capture>();
  capture->graph = new Graph;
  capture->origin = s;
  capture->thread = std::this_thread::get_id();
  capture->mode = mode;
  s->capture = capture;
  captures.push_back(capture);
  return SUCCESS;
}
CU cuStreamEndCapture(Stream* s, Graph** out) {
  *out = nullptr;
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  auto capture = resolve(s)->capture;
  if (!capture) return failed(ILLEGAL_STATE, "the stream is not being captured");
  if (capture->origin != s) return failed(CAPTURE_UNMATCHED, "the capture began on another stream");
  if (capture->mode != 2 && capture->thread != std::this_thread::get_id()) return failed(908, "the capture began on another thread");
  leave(*capture);
  captures.erase(std::find(captures.begin(), captures.end(), capture));
  int code = SUCCESS;
  for (auto& j : capture->joined)
    if (j.second > capture->seen) code = failed(CAPTURE_UNJOINED, "work on another stream was not waited for");
  if (capture->spoiled) code = failed(CAPTURE_INVALIDATED, "the capture was invalidated by an earlier error");
  if (code) return delete capture->graph, code;
  *out = capture->graph;
  return SUCCESS;
}
CU cuStreamIsCapturing(Stream* s, int* status) {
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  auto capture = resolve(s)->capture;
  *status = !capture ? 0 : capture->spoiled ? 2 : 1;
  return SUCCESS;
}
struct Edge { unsigned char from, to, type, reserved[5]; };
CU cuStreamUpdateCaptureDependencies_v2(Stream* s, Node** nodes, const Edge* edges, size_t count, unsigned flags) {
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  auto capture = resolve(s)->capture;
  if (!capture) return failed(ILLEGAL_STATE, "the stream is not being captured");
  if (capture->origin != s || flags > 1) return failed(NOT_SUPPORTED, "only dependencies of the stream where the capture began");
  if (flags == 1) capture->last.clear(), capture->early = false;
  for (size_t i = 0; i < count; ++i) {
    auto same = [&](auto& node) { return node.get() == nodes[i]; };
    if (std::none_of(capture->graph->nodes.begin(), capture->graph->nodes.end(), same)) return failed(INVALID_VALUE, "not a node of the graph that is captured");
    capture->last.push_back(nodes[i]);
    if (!edges || (!edges[i].from && !edges[i].to && !edges[i].type)) continue;
    // Programmatic, from a kernel's port of that kind.
    if (edges[i].from != 1 || edges[i].to || edges[i].type != 1 || nodes[i]->type != KERNEL) return failed(INVALID_VALUE, "no such kind of dependency");
    capture->early = true;
  }
  return SUCCESS;
}
CU cuStreamGetCaptureInfo_v3(Stream* s, int* status, unsigned long long* id, Graph** graph, Node*** nodes, const void** edges, size_t* count) {
  if (int code = cuStreamIsCapturing(s, status)) return code;
  Lock lock(driver::mutex);
  auto capture = resolve(s)->capture;
  if (!capture) return SUCCESS;
  if (id) *id = reinterpret_cast<uintptr_t>(capture.get());
  if (graph) *graph = capture->graph;
  if (nodes) *nodes = capture->last.data();
  if (edges) *edges = nullptr;
  if (count) *count = capture->last.size();
  return SUCCESS;
}
CU cuLaunchHostFunc(Stream* s, void (*function)(void*), void* data) {
  if (int code = usable()) return code;
  return submit(s, {HOST, [=] { return function(data), SUCCESS; }});
}

CU cuGraphInstantiateWithFlags(GraphExec** out, Graph* graph, unsigned long long flags) {
  if (int code = usable()) return code;
  *out = new GraphExec{graph->nodes, (flags & 1) != 0};
  return SUCCESS;
}
CU cuGraphUpload(GraphExec*, Stream*) { return usable(); }
CU cuGraphLaunch(GraphExec* exec, Stream* s) {
  if (int code = usable()) return code;
  if (int code = forbidden_in_capture(s, "cuGraphLaunch")) return code;
  for (auto& node : exec->nodes) {
    if (node->type != ALLOC) continue;
    if (node->live && !exec->free_on_launch) return failed(INVALID_VALUE, "the graph's own allocations are still live from its last launch");
  }
  for (auto& node : exec->nodes)
    if (node->type == ALLOC) node->live = true;
  auto nodes = exec->nodes;
  return submit(s, {HOST, [nodes] {
    for (auto& node : some_order(nodes))
      if (int code = node->run()) return code;
    return int(SUCCESS);
  }});
}
CU cuGraphGetNodes(Graph* graph, Node** nodes, size_t* count) {
  if (!nodes) return *count = graph->nodes.size(), SUCCESS;
  size_t given = std::min(*count, graph->nodes.size());
  for (size_t i = 0; i < *count; ++i) nodes[i] = i < given ? graph->nodes[i].get() : nullptr;
  *count = given;
  return SUCCESS;
}
CU cuGraphNodeGetType(Node* node, int* type) { return *type = node->type, SUCCESS; }
CU cuGraphDestroy(Graph* graph) { return delete graph, SUCCESS; }
CU cuGraphExecDestroy(GraphExec* exec) { return delete exec, SUCCESS; }

CU cuEventCreate(Event** out, unsigned flags) {
  if (int code = usable()) return code;
  *out = new Event;
  (*out)->timed = !(flags & 2);
  return SUCCESS;
}
CU cuEventDestroy_v2(Event* e) { return delete e, SUCCESS; }
CU cuEventRecord(Event* e, Stream* s) {
  if (int code = usable()) return code;
  Lock lock(driver::mutex);
  if (int code = checked(s)) return code;
  Stream* stream = resolve(s);
  e->stream = stream;
  e->capture = stream->capture;
  if (e->capture) return e->node = e->capture->graph->nodes.size(), SUCCESS;
  e->recorded = true;
  e->at = now();
  if (settings().lazy) stream->queue.push_back({HOST, [e] { return e->at = now(), SUCCESS; }});
  return SUCCESS;
}
CU cuEventSynchronize(Event* e) {
  if (int code = usable()) return code;
  Lock lock(driver::mutex);
  if (e->capture) return e->capture->spoiled = true, failed(CAPTURED_EVENT, "the event was recorded in a capture");
  return e->stream && (streams.count(e->stream) || e->stream == &null_stream) ? drain(e->stream) : SUCCESS;
}
CU cuEventQuery(Event* e) { return cuEventSynchronize(e); }
CU cuEventElapsedTime_v2(float* milliseconds, Event* a, Event* b) {
  if (!a->timed || !b->timed || !a->recorded || !b->recorded) return failed(INVALID_HANDLE, "an event without a time");
  if (int code = cuEventSynchronize(b)) return code;
  *milliseconds = float(b->at - a->at);
  return SUCCESS;
}
CU cuEventElapsedTime(float* milliseconds, Event* a, Event* b) { return cuEventElapsedTime_v2(milliseconds, a, b); }
