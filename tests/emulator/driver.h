// The emulated CUDA driver: what its files share. The functions it exports are those of NVIDIA's driver API that cudarc calls;
// they behave as documented there, or return an error. See README.md for the environment variables.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launch.h"

#define CU extern "C" __attribute__((visibility("default"))) int

namespace driver {

enum Status : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY_FOR_GPU = 209,
  UNSUPPORTED_PTX_VERSION = 222,
  INVALID_HANDLE = 400,
  ILLEGAL_STATE = 401,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  ASSERT = 710,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNMATCHED = 903,
  CAPTURE_UNJOINED = 904,
  CAPTURE_ISOLATION = 905,
  CAPTURED_EVENT = 907,
};

using Address = uint64_t;
inline void* pointer(Address a) { return reinterpret_cast<void*>(a); }

// Set by environment variables, read once by cuInit.
struct Settings {
  int devices = 1;
  int version = 13000;
  int capability = 80;
  size_t memory = size_t(4) << 30;
  bool lazy = false;  // work waits for the next synchronisation, as on a GPU that is behind
};
const Settings& settings();

// Keeps the text for cuGetErrorString and returns the code.
int failed(int code, const std::string& why);
// 0, or why nothing can be done: no context on this thread, or an earlier fault that no later call survives.
int usable();
// A kernel that faulted leaves its context dead.
int fault(int code, const std::string& why);
int remembered_fault();
void forget_fault();

// One piece of work of a stream or a graph.
enum NodeType { KERNEL = 0, MEMCPY = 1, MEMSET = 2, HOST = 3, ALLOC = 10, FREE = 11 };
struct Node {
  NodeType type;
  std::function<int()> run;
  Address address = 0;  // of an allocation or a release
  bool live = false;    // an allocation that a launch of the graph has made
  std::vector<Node*> needs;  // of the same graph, which come before
};
struct Stream;
// Runs the work, or queues it, or records it when the stream is being captured.
int submit(Stream*, Node);
bool capturing(Stream*);
// For calls that may not happen while a capture on this thread is under way: spoils the capture.
int unsafe_in_capture(const char* call);
int forbidden_in_capture(Stream*, const char* call);
int drain(Stream*);
int drain_all();

// Device memory.
Address allocate(size_t bytes);
int release(Address);
bool pinned(const void* host);
void release_everything();
}  // namespace driver
