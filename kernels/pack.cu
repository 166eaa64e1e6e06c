// The operands of a convolution, packed for the tensor cores: both by one launch. The names say how they are converted.
#include "pack.cuh"

#define PACK(name, Mode)                                                                                                       \
  KERNEL(pack_##name, PACK_THREADS, const __grid_constant__ Packing first, const __grid_constant__ Packing second) {             \
    if (blockIdx.x < first.blocks) pack<Mode>(first, blockIdx.x);                                                              \
    else pack<Mode>(second, blockIdx.x - first.blocks);                                                                        \
  }

PACK(tf32, RoundTf32)
PACK(f32x3, SplitBf16)
PACK(rounded, RoundBf16)
// 16-bit floats as they are, of either kind.
PACK(half, Half<__half>)
