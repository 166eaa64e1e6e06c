// Batches of a data set that lies in the device's memory.
#include "device.cuh"

namespace {

// f32 divisions and products are rounded one by one, as on the CPU: both ends of the range are exact.
__device__ __forceinline__ float intensity(uint8_t v, float largest, bool symmetric) {
  return symmetric ? __fdiv_rn(__fsub_rn(__fmul_rn(2.f, v), largest), largest) : __fdiv_rn(v, largest);
}
__device__ __forceinline__ float intensity(float v, float, bool symmetric) { return symmetric ? __fsub_rn(__fmul_rn(2.f, v), 1.f) : v; }

}  // namespace

// Row r of the batch is the example order[*position + r].
#define EXAMPLES(T, suffix)                                                                                                   \
  KERNEL(gather_examples_##suffix, 256, const T* images, const int64_t* labels, const int64_t* order, const uint64_t* position, \
         float* x, int64_t* y, uint64_t rows, uint64_t pixels, float largest, uint32_t symmetric, uint32_t labelled) {                          \
    const uint64_t at = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;                                                      \
    if (at >= rows * pixels) return;                                                                                          \
    const uint64_t row = at / pixels, pixel = at - row * pixels;                                                              \
    const uint64_t example = uint64_t(order[*position + row]);                                                                \
    x[at] = intensity(images[example * pixels + pixel], largest, symmetric != 0);                                             \
    if (pixel == 0 && labelled != 0) y[row] = labels[example];                                                            \
  }

EXAMPLES(uint8_t, u8)
EXAMPLES(float, f32)
