// Convolutions, their transposes and their weight gradients on the tensor cores. The names say how the operands are converted.
#include "conv_tensor.cuh"

namespace {
template <class Mode>
using MediumConvTile = TensorTile<Mode, 2, 2, 2, 4, false>;
template <class Mode>
using LargeConvTile = TensorTile<Mode, 2, 2, 4, 8, false>;
}  // namespace

#define CONV_TENSOR(name, blocks, size, TILE, Mode)                                                                                  \
  KERNEL_BOUNDS(conv2d_##name##_##size, (TILE<Mode>::THREADS, blocks), const __grid_constant__ Convolution p) {                      \
    tensor_convolve<TILE<Mode>>(p);                                                                                                  \
  }                                                                                                                                  \
  KERNEL_BOUNDS(conv2d_weight_grad_##name##_##size, (TILE<Mode>::THREADS, blocks), const __grid_constant__ WeightGradient p) {       \
    tensor_weight_gradient<TILE<Mode>>(p);                                                                                           \
  }

CONV_TENSOR(tf32, 4, medium, MediumConvTile, RoundTf32)
CONV_TENSOR(tf32, 2, large, LargeConvTile, RoundTf32)
CONV_TENSOR(f32x3, 4, medium, MediumConvTile, SplitBf16)
CONV_TENSOR(f32x3, 2, large, LargeConvTile, SplitBf16)
CONV_TENSOR(rounded, 4, medium, MediumConvTile, RoundBf16)
CONV_TENSOR(rounded, 2, large, LargeConvTile, RoundBf16)
CONV_TENSOR(bf16, 4, medium, MediumConvTile, Half<__nv_bfloat16>)
CONV_TENSOR(bf16, 2, large, LargeConvTile, Half<__nv_bfloat16>)
CONV_TENSOR(f16, 4, medium, MediumConvTile, Half<__half>)
CONV_TENSOR(f16, 2, large, LargeConvTile, Half<__half>)
