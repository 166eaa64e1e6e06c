// Products by warpgroups (wgmma), and the descriptors by which they find their operands in shared memory.
#pragma once
#include "hopper.cuh"

namespace strait {

// How a matrix lies in shared memory: the 64-bit descriptor.
enum Swizzle : uint32_t { SWIZZLE_NONE = 0, SWIZZLE_128 = 1, SWIZZLE_64 = 2, SWIZZLE_32 = 3 };
__device__ __forceinline__ constexpr uint64_t descriptor_bits(uint32_t leading, uint32_t stride, Swizzle swizzle) {
  return uint64_t((leading & 0x3ffff) >> 4) << 16 | uint64_t((stride & 0x3ffff) >> 4) << 32 | uint64_t(swizzle) << 62;
}
// Adding bytes / 16 to it moves it on.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint64_t bits) { return bits | (address & 0x3ffff) >> 4; }

INSTRUCTION void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INSTRUCTION void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Leaves the latest PENDING groups in flight.
template <int PENDING>
INSTRUCTION void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Waits for all that add to these accumulators, PENDING later groups aside, and lets the compiler read none before.
template <int PENDING, int R>
INSTRUCTION void wgmma_wait(float (&d)[R]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
#pragma unroll
  for (int i = 0; i < R; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// D = A B (+ D if `add`) of 64 x N, for 32 bytes of the sum. Accumulators of thread l of warp w (of four), with g = l % 32 / 4, t = l % 4:
// d[4 j + 2 h + i] = D(16 w + g + 8 h, 8 j + 2 t + i). A_MN, B_MN: whether the operand's rows or columns, not the sum's elements, are
// contiguous in shared memory (16-bit elements only).
enum Format { FORMAT_BF16, FORMAT_TF32 };
#define STRAIT_R32_0 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define STRAIT_R32_1 \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define STRAIT_R32_2 \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define STRAIT_R32_3                                                                                                                  \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122," \
  "%123,%124,%125,%126,%127"
#define STRAIT_R64 STRAIT_R32_0 "," STRAIT_R32_1
#define STRAIT_R128 STRAIT_R64 "," STRAIT_R32_2 "," STRAIT_R32_3
#define STRAIT_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define STRAIT_D16(i) STRAIT_D4(i), STRAIT_D4(i + 4), STRAIT_D4(i + 8), STRAIT_D4(i + 12)
#define STRAIT_D32(i) STRAIT_D16(i), STRAIT_D16(i + 16)
#define STRAIT_D64(i) STRAIT_D32(i), STRAIT_D32(i + 32)
// a_, b_, more_, ta_, tb_: the numbers, behind the accumulators, of the operands, of `add` and of what is transposed.
#define STRAIT_WGMMA(shape, regs, a_, b_, more_, ta_, tb_, ...)                                              \
  asm volatile("{ .reg .pred more; setp.ne.b32 more, " more_ ", 0;\n"                                       \
               "wgmma.mma_async.sync.aligned." shape "k16.f32.bf16.bf16 {" regs "}, " a_ ", " b_             \
               ", more, 1, 1, " ta_ ", " tb_ "; }"                                                          \
               : __VA_ARGS__ : "l"(a), "l"(b), "r"(add), "n"(int(A_MN)), "n"(int(B_MN)))
#define STRAIT_WGMMA_TF32(shape, regs, a_, b_, more_, ...)                                                   \
  asm volatile("{ .reg .pred more; setp.ne.b32 more, " more_ ", 0;\n"                                       \
               "wgmma.mma_async.sync.aligned." shape "k8.f32.tf32.tf32 {" regs "}, " a_ ", " b_ ", more, 1, 1; }" \
               : __VA_ARGS__ : "l"(a), "l"(b), "r"(add))
template <int N, Format FORMAT, bool A_MN, bool B_MN>
INSTRUCTION void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, int add) {
  static_assert(N == 256 || N == 64 || (N == 128 && FORMAT == FORMAT_BF16), "shapes that are spelled out");
  static_assert(FORMAT != FORMAT_TF32 || (!A_MN && !B_MN), "TF32 takes both operands with the sum's elements contiguous");
  if constexpr (FORMAT == FORMAT_BF16) {
    if constexpr (N == 256)
      STRAIT_WGMMA("m64n256", STRAIT_R128, "%128", "%129", "%130", "%131", "%132", STRAIT_D64(0), STRAIT_D64(64));
    if constexpr (N == 128) STRAIT_WGMMA("m64n128", STRAIT_R64, "%64", "%65", "%66", "%67", "%68", STRAIT_D64(0));
    if constexpr (N == 64) STRAIT_WGMMA("m64n64", STRAIT_R32_0, "%32", "%33", "%34", "%35", "%36", STRAIT_D32(0));
  } else {
    if constexpr (N == 256) STRAIT_WGMMA_TF32("m64n256", STRAIT_R128, "%128", "%129", "%130", STRAIT_D64(0), STRAIT_D64(64));
    if constexpr (N == 64) STRAIT_WGMMA_TF32("m64n64", STRAIT_R32_0, "%32", "%33", "%34", STRAIT_D32(0));
  }
}
// 64 x 64 with the left operand from registers: a = A(g, 2t..) A(g+8, 2t..) A(g, 2t+8..) A(g+8, 2t+8..), rows of the warp's sixteen; that
// is, of the accumulators of a product, d[0..1] d[2..3] d[4..5] d[6..7], rounded.
template <bool B_MN>
INSTRUCTION void wgmma_registers(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int add) {
  asm volatile("{ .reg .pred more; setp.ne.b32 more, %37, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" STRAIT_R32_0 "}, {%32,%33,%34,%35}, %36, more, 1, 1, %38; }"
               : STRAIT_D32(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(int(B_MN)));
}
// The results of a warpgroup's product of 64 x 64, row by row.
INSTRUCTION void store_64x64(float* out, const float (&d)[32]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) out[(warp * 16 + lane / 4 + (i >> 1) * 8) * 64 + j * 8 + lane % 4 * 2 + (i & 1)] = d[j * 4 + i];
}
}  // namespace strait
