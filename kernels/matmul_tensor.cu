// Matrix products on the tensor cores. The names say how the operands are converted.
#include "tensor_loader.cuh"

namespace {
template <class Mode>
using MediumTensorTile = TensorTile<Mode, 2, 2, 2, 4>;
template <class Mode>
using LargeTensorTile = TensorTile<Mode, 2, 2, 4, 8>;
}  // namespace

#define MATMUL_TENSOR(name, Mode)                                                                   \
  KERNEL_BOUNDS(matmul_##name##_medium, (MediumTensorTile<Mode>::THREADS, 4), const __grid_constant__ Product p, \
                const __grid_constant__ Strided<2> batches) {                                      \
    tensor_product<MediumTensorTile<Mode>>(p, batches);                                            \
  }                                                                                                \
  KERNEL_BOUNDS(matmul_##name##_large, (LargeTensorTile<Mode>::THREADS, 2), const __grid_constant__ Product p, \
                const __grid_constant__ Strided<2> batches) {                                      \
    tensor_product<LargeTensorTile<Mode>>(p, batches);                                             \
  }

// f32 operands.
MATMUL_TENSOR(tf32, RoundTf32)
MATMUL_TENSOR(f32x3, SplitBf16)
MATMUL_TENSOR(rounded, RoundBf16)
// 16-bit operands and results.
MATMUL_TENSOR(bf16, Half<__nv_bfloat16>)
MATMUL_TENSOR(f16, Half<__half>)

// As `split_sum_f32`, with a 16-bit bias and results.
KERNEL(split_sum_bf16, 256, const __grid_constant__ SplitSum p) { split_sum<float, __nv_bfloat16>(p); }
KERNEL(split_sum_f16, 256, const __grid_constant__ SplitSum p) { split_sum<float, __half>(p); }
