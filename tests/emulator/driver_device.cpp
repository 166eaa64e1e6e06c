// Devices, contexts, errors.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "driver.h"

namespace driver {
static Settings set;
const Settings& settings() { return set; }

struct Context { int device; };
static Context contexts[8] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
static thread_local Context* current;
static bool initialised;

static std::mutex mutex;
static int detail_code;
static std::string detail;  // of the last error
static int fault_code;
static std::string fault_detail;

int failed(int code, const std::string& why) {
  std::lock_guard<std::mutex> lock(mutex);
  detail_code = code;
  detail = why;
  if (getenv("STRAIT_EMU_LOG")) fprintf(stderr, "[emulator] %s\n", why.c_str());
  return code;
}
int fault(int code, const std::string& why) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!fault_code) fault_code = code, fault_detail = why;
  }
  return failed(code, why);
}
int remembered_fault() {
  std::lock_guard<std::mutex> lock(mutex);
  return fault_code;
}
void forget_fault() {
  std::lock_guard<std::mutex> lock(mutex);
  fault_code = 0;
  fault_detail.clear();
}
int usable() {
  if (!current) return failed(INVALID_CONTEXT, "no context is current on this thread");
  return remembered_fault();
}

struct Name { int code; const char *name, *text; };
static const Name NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {ASSERT, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
};
}  // namespace driver
using namespace driver;

// What the environment variables STRAIT_EMU_* set. Tests may also set them here, in lower case, before cuInit.
struct Option { const char* name; long value; };
static Option options[] = {{"devices", 1}, {"driver", 13000}, {"capability", 80}, {"memory", 4L << 30}, {"lazy", 0}, {"sched", 0}, {"seed", 1}, {"workers", 0}, {"lint", 0}};
extern "C" __attribute__((visibility("default"))) void emu_option(const char* name, long value) {
  for (auto& o : options)
    if (!strcmp(o.name, name)) o.value = value;
}
static long option(const char* name) {
  std::string variable = "STRAIT_EMU_";
  for (const char* c = name; *c; ++c) variable += char(toupper(*c));
  const char* text = getenv(variable.c_str());
  if (text && *text) return atol(text);
  for (auto& o : options)
    if (!strcmp(o.name, name)) return o.value;
  abort();
}

CU cuInit(unsigned) {
  set.devices = std::min(int(option("devices")), int(sizeof contexts / sizeof *contexts));
  set.version = int(option("driver"));
  set.capability = int(option("capability"));
  set.memory = size_t(option("memory"));
  set.lazy = option("lazy") != 0;
  for (const char* name : {"sched", "seed", "workers", "lint"}) emu_set(name, option(name));
  if (set.devices < 1) return failed(NO_DEVICE, "no CUDA-capable device is detected");
  initialised = true;
  return SUCCESS;
}
CU cuDriverGetVersion(int* version) {
  *version = int(option("driver"));  // may be asked before cuInit
  return SUCCESS;
}
CU cuDeviceGetCount(int* count) {
  if (!initialised) return failed(NOT_INITIALIZED, "cuInit has not been called");
  *count = set.devices;
  return SUCCESS;
}
CU cuDeviceGet(int* device, int ordinal) {
  if (!initialised) return failed(NOT_INITIALIZED, "cuInit has not been called");
  if (ordinal < 0 || ordinal >= set.devices) return failed(INVALID_DEVICE, "invalid device ordinal");
  *device = ordinal;
  return SUCCESS;
}
CU cuDeviceGetName(char* name, int length, int) {
  snprintf(name, size_t(length), "strait emulator");
  return SUCCESS;
}
CU cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
  memset(uuid, 0, 16);
  uuid[15] = static_cast<unsigned char>(device);
  return SUCCESS;
}
CU cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = set.memory;
  return SUCCESS;
}
CU cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 1: *value = 1024; break;                    // MAX_THREADS_PER_BLOCK
    case 2: case 3: *value = 1024; break;            // MAX_BLOCK_DIM_X, Y
    case 4: *value = 64; break;                      // MAX_BLOCK_DIM_Z
    case 5: *value = 0x7fffffff; break;              // MAX_GRID_DIM_X
    case 6: case 7: *value = 65535; break;           // MAX_GRID_DIM_Y, Z
    case 8: *value = 48 << 10; break;                // MAX_SHARED_MEMORY_PER_BLOCK
    case 10: *value = 32; break;                     // WARP_SIZE
    case 16: *value = 8; break;                      // MULTIPROCESSOR_COUNT
    case 38: *value = 32 << 20; break;               // L2_CACHE_SIZE
    case 39: *value = 2048; break;                   // MAX_THREADS_PER_MULTIPROCESSOR
    case 41: *value = 1; break;                      // UNIFIED_ADDRESSING
    case 75: *value = set.capability / 10; break;    // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = set.capability % 10; break;    // COMPUTE_CAPABILITY_MINOR
    case 81: *value = 228 << 10; break;              // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 82: *value = 65536; break;                  // MAX_REGISTERS_PER_MULTIPROCESSOR
    case 97: *value = 232448; break;                 // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 115: *value = 1; break;                     // MEMORY_POOLS_SUPPORTED
    default: *value = 0;
  }
  return SUCCESS;
}
CU cuDevicePrimaryCtxRetain(Context** context, int device) {
  if (device < 0 || device >= set.devices) return failed(INVALID_DEVICE, "invalid device ordinal");
  *context = &contexts[device];
  return SUCCESS;
}
CU cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
// The one call that mends a dead context, with all that was in it gone.
CU cuDevicePrimaryCtxReset_v2(int) {
  forget_fault();
  release_everything();
  return SUCCESS;
}
CU cuCtxGetCurrent(Context** context) {
  *context = current;
  return SUCCESS;
}
CU cuCtxSetCurrent(Context* context) {
  current = context;
  return SUCCESS;
}
CU cuCtxGetDevice(int* device) {
  if (!current) return failed(INVALID_CONTEXT, "no context is current on this thread");
  *device = current->device;
  return SUCCESS;
}
CU cuCtxSetFlags(unsigned) { return usable(); }
CU cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return usable();
}
CU cuCtxSynchronize() {
  if (int code = usable()) return code;
  if (int code = unsafe_in_capture("cuCtxSynchronize")) return code;
  return drain_all();
}
CU cuGetErrorName(int code, const char** name) {
  for (auto& n : NAMES)
    if (n.code == code) return *name = n.name, SUCCESS;
  *name = nullptr;
  return INVALID_VALUE;
}
// The real driver has one sentence per code; here the reason follows it.
CU cuGetErrorString(int code, const char** text) {
  static thread_local std::string copy;
  copy = "unrecognized error code";
  int found = INVALID_VALUE;
  for (auto& n : NAMES)
    if (n.code == code) copy = n.text, found = SUCCESS;
  std::lock_guard<std::mutex> lock(mutex);
  if (code && code == fault_code) copy += ": " + fault_detail;
  else if (code && code == detail_code && detail != copy) copy += ": " + detail;
  *text = copy.c_str();
  return found;
}
