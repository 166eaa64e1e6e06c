// Matrix products on the CUDA cores: small and medium tiles, any strides, batches, sums over k cut among blocks.
#include "product.cuh"

#define MATMUL(name, T, suffix, blocks, TILE, MASKED)                                          \
  KERNEL_BOUNDS(name##_##suffix, (TILE<T>::THREADS, blocks), const __grid_constant__ Product p, \
                const __grid_constant__ Strided<2> batches) {                                  \
    __shared__ __align__(16) T shared[TILE<T>::SHARED];                                        \
    product<TILE<T>, MASKED>(shared, p, batches);                                              \
  }

MATMUL(matmul_small, float, f32, 2, SmallTile, false)
MATMUL(matmul_medium, float, f32, 2, MediumTile, false)
MATMUL(matmul_small, double, f64, 1, SmallTile, false)
MATMUL(matmul_medium, double, f64, 1, MediumTile, false)
MATMUL(matmul_masked_small, float, f32, 2, SmallTile, true)
MATMUL(matmul_masked_medium, float, f32, 2, MediumTile, true)
MATMUL(matmul_masked_small, double, f64, 1, SmallTile, true)
MATMUL(matmul_masked_medium, double, f64, 1, MediumTile, true)

// The sums of what the blocks of a product with cut sums left, in their order; bias and activation.
KERNEL(split_sum_f32, 256, const __grid_constant__ SplitSum p) { split_sum<float>(p); }
KERNEL(split_sum_f64, 256, const __grid_constant__ SplitSum p) { split_sum<double>(p); }
