// NVIDIA's driver, which is found when the program runs, and what programs want of it.
#pragma once
#include <cuda.h>
#include <dlfcn.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

// An error of the driver, after which nothing works in this process.
struct DriverError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A function of the driver by the name of its newest version, to which cuda.h defines the plain one.
template <class Function>
Function* driver_function(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) throw DriverError("there is no NVIDIA driver");
  void* found = dlsym(library, name);
  if (!found) throw DriverError(std::string("the driver has no ") + name);
  return reinterpret_cast<Function*>(found);
}
#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define CUDA(function, ...) checked(driver_function<decltype(function)>(TEXT(function))(__VA_ARGS__), #function)

inline void checked(CUresult code, const char* what) {
  if (code == CUDA_SUCCESS) return;
  const char* why = nullptr;
  driver_function<decltype(cuGetErrorString)>(TEXT(cuGetErrorString))(code, &why);
  throw DriverError(std::string(what) + ": " + (why ? why : "an error without a name"));
}

// Memory of the GPU, and copies to and from it.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    CUDA(cuMemAlloc, &address_, bytes);
    // What a kernel does not write is not a number.
    CUDA(cuMemsetD8, address_, 0xff, bytes);
  }
  template <class T>
  explicit Buffer(const std::vector<T>& values) : bytes_(values.size() * sizeof(T)) {
    CUDA(cuMemAlloc, &address_, bytes_);
    CUDA(cuMemcpyHtoD, address_, values.data(), bytes_);
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { driver_function<decltype(cuMemFree)>(TEXT(cuMemFree))(address_); }

  template <class T>
  std::vector<T> read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    CUDA(cuMemcpyDtoH, values.data(), address_, bytes_);
    return values;
  }
  template <class T>
  T* pointer() const {
    return reinterpret_cast<T*>(address_);
  }

 private:
  CUdeviceptr address_ = 0;
  size_t bytes_;
};

// The axes of a tensor map, the contiguous one first.
struct Axis {
  uint64_t length, stride;  // the stride in bytes
  uint32_t box, step = 1;   // the box counts elements of the tensor, of which every step-th is copied
};
inline CUtensorMap tensor_map(CUtensorMapDataType type, const Buffer& data, const std::vector<Axis>& axes, CUtensorMapSwizzle swizzle) {
  CUtensorMap map;
  std::vector<cuuint64_t> lengths, strides;
  std::vector<cuuint32_t> box, steps;
  for (const Axis& axis : axes) lengths.push_back(axis.length), strides.push_back(axis.stride), box.push_back(axis.box), steps.push_back(axis.step);
  CUDA(cuTensorMapEncodeTiled, &map, type, cuuint32_t(axes.size()), data.pointer<void>(), lengths.data(), strides.data() + 1, box.data(),
       steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

// A kernel and its launch.
struct Launch {
  CUfunction function;
  CUstream stream;
  unsigned blocks, threads, shared, cluster;
  void operator()(std::vector<const void*> arguments) const {
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim.x = cluster, attribute.value.clusterDim.y = attribute.value.clusterDim.z = 1;
    CUlaunchConfig config{};
    config.gridDimX = blocks, config.blockDimX = threads, config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1;
    config.sharedMemBytes = shared, config.hStream = stream, config.attrs = &attribute, config.numAttrs = cluster > 1;
    CUDA(cuLaunchKernelEx, &config, function, const_cast<void**>(arguments.data()), nullptr);
  }
};

struct Time {
  double milliseconds, hertz;  // the clock's rate right afterwards
};

class Gpu {
 public:
  Gpu(std::string folder, bool few) : folder_(std::move(folder)), few_(few) {
    CUDA(cuInit, 0);
    CUDA(cuDeviceGet, &device_, 0);
    char name[128];
    CUDA(cuDeviceGetName, name, sizeof name, device_);
    name_ = name;
  }
  const std::string& name() const { return name_; }
  int attribute(CUdevice_attribute which) const {
    int value;
    CUDA(cuDeviceGetAttribute, &value, which, device_);
    return value;
  }
  void start() {
    CUcontext context;
    CUDA(cuDevicePrimaryCtxRetain, &context, device_);
    CUDA(cuCtxSetCurrent, context);
    CUDA(cuStreamCreate, &stream_, CU_STREAM_DEFAULT);
    multiprocessors_ = unsigned(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
  }
  unsigned multiprocessors() const { return multiprocessors_; }

  Launch kernel(const std::string& file, const std::string& name, unsigned blocks, unsigned threads, unsigned shared, unsigned cluster = 1) {
    CUmodule& module = modules_[file];
    if (!module) {
      std::ifstream in(folder_ + "/" + file + ".cubin", std::ios::binary);
      std::vector<char> image(std::istreambuf_iterator<char>(in), {});
      if (image.empty()) throw DriverError("there is no " + file + ".cubin beside this program");
      image.push_back(0);
      CUDA(cuModuleLoadData, &module, image.data());
    }
    Launch launch{nullptr, stream_, blocks, threads, shared, cluster};
    CUDA(cuModuleGetFunction, &launch.function, module, name.c_str());
    CUDA(cuFuncSetAttribute, launch.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, int(shared));
    return launch;
  }
  // Of a launch: the median over graphs of launches that take at least a third of a millisecond. The host takes no part in them.
  Time time(const std::function<void()>& launch) {
    CUevent from, to;
    CUDA(cuEventCreate, &from, CU_EVENT_DEFAULT);
    CUDA(cuEventCreate, &to, CU_EVENT_DEFAULT);
    auto times = [&](int count, int repetitions) {
      const CUgraphExec graph = captured(launch, count);
      std::vector<double> all;
      for (int i = 0; i <= repetitions; ++i) {
        CUDA(cuEventRecord, from, stream_);
        CUDA(cuGraphLaunch, graph, stream_);
        CUDA(cuEventRecord, to, stream_);
        CUDA(cuEventSynchronize, to);
        float passed;
        CUDA(cuEventElapsedTime, &passed, from, to);
        all.push_back(double(passed) / count);
      }
      // the first one warms up
      std::sort(all.begin() + 1, all.end());
      return all[1 + (all.size() - 1) / 2];
    };
    const double one = std::max(times(1, few_ ? 1 : 3), 1e-3);
    const double median = few_ ? one : times(std::min(100, int(0.33 / one) + 1), 15);
    return {median, clock_rate()};
  }

 private:
  CUgraphExec captured(const std::function<void()>& launch, int count) {
    CUgraph graph;
    CUgraphExec executable;
    CUDA(cuStreamBeginCapture, stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    for (int i = 0; i < count; ++i) launch();
    CUDA(cuStreamEndCapture, stream_, &graph);
    CUDA(cuGraphInstantiate, &executable, graph, 0);
    return executable;
  }
  double clock_rate() {
    const Buffer out(16);
    uint64_t* to = out.pointer<uint64_t>();
    kernel("boxes", "clock_rate", 1, 1, 0)({&to});
    const auto passed = out.read<uint64_t>();
    return double(passed[0]) / double(passed[1]) * 1e9;
  }

  std::string folder_, name_;
  bool few_;
  CUdevice device_ = 0;
  CUstream stream_ = nullptr;
  unsigned multiprocessors_ = 1;
  std::map<std::string, CUmodule> modules_;
};
