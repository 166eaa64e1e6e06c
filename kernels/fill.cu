// Constant tensors.
#include "device.cuh"

namespace {
template <class T>
__device__ __forceinline__ void fill(T* out, T value, uint64_t n) {
  for (uint64_t i = blockIdx.x * uint64_t(blockDim.x) + threadIdx.x; i < n; i += uint64_t(gridDim.x) * blockDim.x) out[i] = value;
}
}  // namespace

KERNEL(fill_f32, 256, float* out, float value, uint64_t n) { fill(out, value, n); }
KERNEL(fill_f64, 256, double* out, double value, uint64_t n) { fill(out, value, n); }
KERNEL(fill_u16, 256, uint16_t* out, uint16_t value, uint64_t n) { fill(out, value, n); }
KERNEL(fill_i64, 256, int64_t* out, int64_t value, uint64_t n) { fill(out, value, n); }
KERNEL(fill_u8, 256, uint8_t* out, uint8_t value, uint64_t n) { fill(out, value, n); }
