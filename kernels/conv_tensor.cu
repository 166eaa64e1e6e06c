// Convolutions, their transposes and their weight gradients on the tensor cores. The names say how the operands are converted: by the
// kernels themselves, or for large tiles by those of pack.cu.
#include "conv_packed.cuh"

namespace {
template <class Mode>
using MediumConvTile = TensorTile<Mode, 2, 2, 2, 4, false>;
// As many bytes of stages in every mode: two planes have half as many stages, for which there is as much to do.
template <class Mode>
using LargeConvTile = TensorTile<Mode, 2, 2, 4, 8, true, 4 / Mode::PLANES, 64>;
}  // namespace

#define CONV_TENSOR(name, Mode)                                                                                                      \
  KERNEL_BOUNDS(conv2d_##name##_medium, (MediumConvTile<Mode>::THREADS, 4), const __grid_constant__ Convolution p) {                 \
    tensor_convolve<MediumConvTile<Mode>>(p);                                                                                        \
  }                                                                                                                                  \
  KERNEL_BOUNDS(conv2d_weight_grad_##name##_medium, (MediumConvTile<Mode>::THREADS, 4), const __grid_constant__ WeightGradient p) {  \
    tensor_weight_gradient<MediumConvTile<Mode>>(p);                                                                                 \
  }                                                                                                                                  \
  KERNEL_BOUNDS(conv2d_##name##_large, (LargeConvTile<Mode>::THREADS, 2), const __grid_constant__ Convolution p) {                   \
    packed_convolve<LargeConvTile<Mode>>(p);                                                                                         \
  }                                                                                                                                  \
  KERNEL_BOUNDS(conv2d_weight_grad_##name##_large, (LargeConvTile<Mode>::THREADS, 2), const __grid_constant__ WeightGradient p) {    \
    packed_weight_gradient<LargeConvTile<Mode>>(p);                                                                                  \
  }

CONV_TENSOR(tf32, RoundTf32)
CONV_TENSOR(f32x3, SplitBf16)
CONV_TENSOR(rounded, RoundBf16)
CONV_TENSOR(bf16, Half<__nv_bfloat16>)
CONV_TENSOR(f16, Half<__half>)
