// Matrix products of large matrices on the CUDA cores: 128 x 128 results per block, 8 x 16 per thread.
#include "product.cuh"

KERNEL_BOUNDS(matmul_large_f32, (LargeTile<float>::THREADS, 2), const __grid_constant__ Product p, const __grid_constant__ Strided<2> batches) {
  __shared__ __align__(16) float shared[LargeTile<float>::SHARED];
  product<LargeTile<float>, false>(shared, p, batches);
}
