// Convolutions, their transposes and their weight gradients on the CUDA cores.
#include "conv_weight.cuh"

#define CONV(T, suffix, blocks, size, TILE)                                                                             \
  KERNEL_BOUNDS(conv2d_##size##_##suffix, (TILE<T>::THREADS, blocks), const __grid_constant__ Convolution p) {          \
    convolve<TILE<T>>(p);                                                                                               \
  }                                                                                                                     \
  KERNEL_BOUNDS(conv2d_weight_grad_##size##_##suffix, (TILE<T>::THREADS, blocks), const __grid_constant__ WeightGradient p) { \
    weight_gradient<TILE<T>>(p);                                                                                        \
  }

CONV(float, f32, 2, small, SmallTile)
CONV(float, f32, 2, medium, MediumTile)
CONV(double, f64, 1, small, SmallTile)
CONV(double, f64, 1, medium, MediumTile)
