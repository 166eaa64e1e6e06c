// Device memory, pools, pinned host memory, copies.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "driver.h"

namespace driver {
static std::mutex mutex;
static std::map<Address, size_t> live, host;  // by start
static size_t used, peak;

Address allocate(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  if (bytes > settings().memory - used) return 0;
  auto address = reinterpret_cast<Address>(emu_alloc(bytes));
  if (!address) return 0;
  live[address] = bytes;
  used += bytes;
  peak = std::max(peak, used);
  return address;
}
int release(Address address) {
  std::lock_guard<std::mutex> lock(mutex);
  auto it = live.find(address);
  if (it == live.end() || emu_free(pointer(address))) return failed(INVALID_VALUE, "free of a pointer that is not a live allocation");
  used -= it->second;
  live.erase(it);
  return SUCCESS;
}
void release_everything() {
  std::lock_guard<std::mutex> lock(mutex);
  for (auto& a : live) emu_free(pointer(a.first));
  live.clear();
  used = 0;
}
bool pinned(const void* p) {
  std::lock_guard<std::mutex> lock(mutex);
  auto a = reinterpret_cast<Address>(p);
  auto it = host.upper_bound(a);
  return it != host.begin() && a - std::prev(it)->first < std::prev(it)->second;
}
static int in_range(int code, const char* call) {
  return code ? failed(INVALID_VALUE, std::string(call) + ": the range is not inside one live allocation") : SUCCESS;
}

struct Pool { uint64_t threshold = 0; };
static Pool default_pool;

static int allocate_for(Address* out, size_t bytes) {
  if (!bytes) return failed(INVALID_VALUE, "an allocation of 0 bytes");
  *out = allocate(bytes);
  return *out ? SUCCESS : failed(OUT_OF_MEMORY, "out of memory");
}
static int copy_to_device(Address to, const void* from, size_t bytes, Stream* stream, const char* call) {
  if (!bytes) return SUCCESS;
  if (pinned(from)) return submit(stream, {MEMCPY, [=] { return in_range(emu_h2d(pointer(to), from, bytes), call); }});
  if (capturing(stream)) return forbidden_in_capture(stream, "a copy from pageable host memory");
  // The driver stages pageable memory before it returns.
  auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
  return submit(stream, {MEMCPY, [=] { return in_range(emu_h2d(pointer(to), staged->data(), bytes), call); }});
}
static int copy_to_host(void* to, Address from, size_t bytes, Stream* stream, const char* call) {
  if (!bytes) return SUCCESS;
  Node copy{MEMCPY, [=] { return in_range(emu_d2h(to, pointer(from), bytes), call); }};
  if (pinned(to)) return submit(stream, copy);
  if (capturing(stream)) return forbidden_in_capture(stream, "a copy to pageable host memory");
  // Returns when the data is there.
  if (int code = submit(stream, copy)) return code;
  return drain(stream);
}
static int fill(Address to, uint32_t value, size_t width, size_t count, Stream* stream, const char* call) {
  if (!count) return SUCCESS;
  if (to % width) return failed(INVALID_VALUE, std::string(call) + ": misaligned");
  return submit(stream, {MEMSET, [=] { return in_range(emu_memset(pointer(to), &value, width, count * width), call); }});
}
// The calls without a stream: not during a capture, and after all other work.
static int synchronous(const char* call) {
  if (int code = usable()) return code;
  if (int code = unsafe_in_capture(call)) return code;
  return drain_all();
}
}  // namespace driver
using namespace driver;

CU cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (int code = usable()) return code;
  std::lock_guard<std::mutex> lock(driver::mutex);
  *total = settings().memory;
  *free = settings().memory - used;
  return SUCCESS;
}
CU cuMemAlloc_v2(Address* out, size_t bytes) {
  if (int code = usable()) return code;
  if (int code = unsafe_in_capture("cuMemAlloc")) return code;
  return allocate_for(out, bytes);
}
CU cuMemFree_v2(Address address) {
  if (int code = synchronous("cuMemFree")) return code;
  return address ? release(address) : SUCCESS;
}
CU cuMemAllocAsync(Address* out, size_t bytes, Stream* stream) {
  if (int code = usable()) return code;
  if (int code = allocate_for(out, bytes)) return code;
  if (!capturing(stream)) return SUCCESS;
  Node node{ALLOC, [] { return SUCCESS; }};
  node.address = *out;
  return submit(stream, node);
}
CU cuMemAllocFromPoolAsync(Address* out, size_t bytes, Pool*, Stream* stream) { return cuMemAllocAsync(out, bytes, stream); }
CU cuMemFreeAsync(Address address, Stream* stream) {
  if (int code = usable()) return code;
  Node node{FREE, [=] { return release(address); }};
  node.address = address;
  return submit(stream, node);
}

CU cuDeviceGetDefaultMemPool(Pool** pool, int) { return *pool = &default_pool, SUCCESS; }
CU cuDeviceGetMemPool(Pool** pool, int) { return *pool = &default_pool, SUCCESS; }
CU cuDeviceSetMemPool(int, Pool*) { return SUCCESS; }
CU cuMemPoolCreate(Pool** pool, const void*) { return *pool = new Pool, SUCCESS; }
CU cuMemPoolDestroy(Pool* pool) {
  if (pool != &default_pool) delete pool;
  return SUCCESS;
}
CU cuMemPoolTrimTo(Pool*, size_t) { return SUCCESS; }
CU cuMemPoolSetAttribute(Pool* pool, int attribute, void* value) {
  if (attribute == 4) memcpy(&pool->threshold, value, 8);
  if (attribute == 8) peak = used;  // USED_MEM_HIGH can be reset
  return SUCCESS;
}
CU cuMemPoolGetAttribute(Pool* pool, int attribute, void* value) {
  uint64_t now = attribute == 4 ? pool->threshold : attribute == 6 || attribute == 8 ? peak : attribute == 5 || attribute == 7 ? used : 1;
  memcpy(value, &now, attribute < 4 ? 4 : 8);
  return SUCCESS;
}

CU cuMemHostAlloc(void** out, size_t bytes, unsigned) {
  if (int code = usable()) return code;
  if (int code = unsafe_in_capture("cuMemHostAlloc")) return code;
  if (!bytes) return failed(INVALID_VALUE, "an allocation of 0 bytes");
  *out = emu_alloc(bytes);
  if (!*out) return failed(OUT_OF_MEMORY, "out of memory");
  emu_mark_initialised(*out, bytes);
  std::lock_guard<std::mutex> lock(driver::mutex);
  host[reinterpret_cast<Address>(*out)] = bytes;
  return SUCCESS;
}
CU cuMemAllocHost_v2(void** out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }
CU cuMemFreeHost(void* p) {
  if (int code = synchronous("cuMemFreeHost")) return code;
  std::lock_guard<std::mutex> lock(driver::mutex);
  if (!host.erase(reinterpret_cast<Address>(p)) || emu_free(p)) return failed(INVALID_VALUE, "not pinned memory");
  return SUCCESS;
}
CU cuMemHostGetDevicePointer_v2(Address* out, void* p, unsigned) { return *out = reinterpret_cast<Address>(p), SUCCESS; }

CU cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
  if (int code = synchronous("cuMemcpyHtoD")) return code;
  return in_range(bytes ? emu_h2d(pointer(to), from, bytes) : 0, "cuMemcpyHtoD");
}
CU cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
  if (int code = synchronous("cuMemcpyDtoH")) return code;
  return in_range(bytes ? emu_d2h(to, pointer(from), bytes) : 0, "cuMemcpyDtoH");
}
CU cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
  if (int code = synchronous("cuMemcpyDtoD")) return code;
  return in_range(bytes ? emu_d2d(pointer(to), pointer(from), bytes) : 0, "cuMemcpyDtoD");
}
CU cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Stream* stream) {
  if (int code = usable()) return code;
  return copy_to_device(to, from, bytes, stream, "cuMemcpyHtoDAsync");
}
CU cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Stream* stream) {
  if (int code = usable()) return code;
  return copy_to_host(to, from, bytes, stream, "cuMemcpyDtoHAsync");
}
CU cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Stream* stream) {
  if (int code = usable()) return code;
  if (!bytes) return SUCCESS;
  return submit(stream, {MEMCPY, [=] { return in_range(emu_d2d(pointer(to), pointer(from), bytes), "cuMemcpyDtoDAsync"); }});
}
CU cuMemsetD8_v2(Address to, unsigned char value, size_t count) {
  if (int code = synchronous("cuMemsetD8")) return code;
  return in_range(count ? emu_memset(pointer(to), &value, 1, count) : 0, "cuMemsetD8");
}
CU cuMemsetD32_v2(Address to, unsigned value, size_t count) {
  if (int code = synchronous("cuMemsetD32")) return code;
  return in_range(count ? emu_memset(pointer(to), &value, 4, count * 4) : 0, "cuMemsetD32");
}
CU cuMemsetD8Async(Address to, unsigned char value, size_t count, Stream* stream) {
  if (int code = usable()) return code;
  return fill(to, value, 1, count, stream, "cuMemsetD8Async");
}
CU cuMemsetD16Async(Address to, unsigned short value, size_t count, Stream* stream) {
  if (int code = usable()) return code;
  return fill(to, value, 2, count, stream, "cuMemsetD16Async");
}
CU cuMemsetD32Async(Address to, unsigned value, size_t count, Stream* stream) {
  if (int code = usable()) return code;
  return fill(to, value, 4, count, stream, "cuMemsetD32Async");
}
