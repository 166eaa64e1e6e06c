// Counter-based random numbers: the twin of src/device/cpu/philox.rs, bit for bit. Every float operation is rounded explicitly, so that
// nothing is contracted.
#pragma once
#include "device.cuh"

namespace {

struct Words {
  uint32_t w[4];
};

// Ten rounds of Philox on the counter [block low, block high, draw low, draw high].
__device__ __forceinline__ Words philox(uint64_t key, uint64_t draw, uint64_t block) {
  uint32_t a = uint32_t(block), b = uint32_t(block >> 32), c = uint32_t(draw), d = uint32_t(draw >> 32);
  uint32_t k = uint32_t(key), l = uint32_t(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t low_a = a * 0xd2511f53u, high_a = __umulhi(a, 0xd2511f53u);
    const uint32_t low_c = c * 0xcd9e8d57u, high_c = __umulhi(c, 0xcd9e8d57u);
    a = high_c ^ b ^ k;
    b = low_c;
    c = high_a ^ d ^ l;
    d = low_a;
    k += 0x9e3779b9u;
    l += 0xbb67ae85u;
  }
  return {{a, b, c, d}};
}

// The number of a draw; captured graphs advance it in the device's memory.
__device__ __forceinline__ uint64_t draw_number(uint64_t number, const uint64_t* offset) { return offset ? number + *offset : number; }

// In (0, 1), symmetric about 1/2; every step is exact.
__device__ __forceinline__ float uniform_from(uint32_t word) {
  return __fmul_rn(__fadd_rn(__int2float_rn(int(word >> 9)), 0.5f), 1.1920929e-7f);
}

// Draws with this bit are the lower bits of the f64 uniforms of the draw without it.
constexpr uint64_t FINE = uint64_t(1) << 62;

// The f64 uniform whose upper bits are those of the f32 uniform of `high`; every step is exact.
__device__ __forceinline__ double fine_uniform_from(uint32_t high, uint32_t low) {
  return __dmul_rn(__dadd_rn(__ull2double_rn(uint64_t(high) << 20 | low >> 12), 0.5), 0x1p-52);
}

// ln u for a normal number u.
__device__ __forceinline__ float normal_ln(float u) {
  const int exponent = int(__float_as_uint(u) - 0x3f3504f3u) >> 23;
  const float f = __fadd_rn(__uint_as_float(__float_as_uint(u) - (uint32_t(exponent) << 23)), -1.f);
  const float k = __int2float_rn(exponent);
  float p = __fmaf_rn(7.0376836e-2f, f, -1.151461e-1f);
  p = __fmaf_rn(p, f, 1.16769987e-1f);
  p = __fmaf_rn(p, f, -1.2420141e-1f);
  p = __fmaf_rn(p, f, 1.4249323e-1f);
  p = __fmaf_rn(p, f, -1.6668058e-1f);
  p = __fmaf_rn(p, f, 2.0000714e-1f);
  p = __fmaf_rn(p, f, -2.4999994e-1f);
  p = __fmaf_rn(p, f, 3.333333e-1f);
  const float ff = __fmul_rn(f, f);
  const float tail = __fmaf_rn(-0.5f, ff, __fmaf_rn(k, -2.1219444e-4f, __fmul_rn(__fmul_rn(p, f), ff)));
  return __fmaf_rn(k, 0.6933594f, __fadd_rn(f, tail));
}

// Two independent standard normals from two independent words (Box-Muller): src/device/cpu/philox/box_muller.rs.
__device__ __forceinline__ float2 normal_pair(uint32_t a, uint32_t b) {
  const float u = __fmaf_rn(__uint2float_rn(a), 2.3283064e-10f, 1.1641532e-10f);
  const float r = __fsqrt_rn(__fmul_rn(-2.f, normal_ln(u)));
  const uint32_t q = (b + (1u << 29)) >> 30;
  const float x = __fmul_rn(__int2float_rn(int(b - (q << 30))), 1.4629181e-9f);
  const float xx = __fmul_rn(x, x);
  const float s_poly = __fmaf_rn(__fmaf_rn(-1.9515296e-4f, xx, 8.332161e-3f), xx, -1.6666655e-1f);
  const float c_poly = __fmaf_rn(__fmaf_rn(2.4433157e-5f, xx, -1.3887316e-3f), xx, 4.1666646e-2f);
  const float s = __fmaf_rn(__fmul_rn(s_poly, xx), x, x);
  const float c = __fmaf_rn(__fmul_rn(c_poly, xx), xx, __fmaf_rn(-0.5f, xx, 1.f));
  const float first = __uint_as_float(__float_as_uint(q & 1 ? s : c) ^ ((q + 1) & 2) << 30);
  const float second = __uint_as_float(__float_as_uint(q & 1 ? c : s) ^ (q & 2) << 30);
  return make_float2(__fmul_rn(r, first), __fmul_rn(r, second));
}

// Normals 4 block .. 4 block + 3 of a draw.
__device__ __forceinline__ float4 normals(uint64_t key, uint64_t draw, uint64_t block) {
  const Words w = philox(key, draw, block);
  const float2 low = normal_pair(w.w[0], w.w[1]), high = normal_pair(w.w[2], w.w[3]);
  return make_float4(low.x, low.y, high.x, high.y);
}

// Uniforms 4 block .. 4 block + 3 of a draw.
__device__ __forceinline__ float4 uniforms(uint64_t key, uint64_t draw, uint64_t block) {
  const Words w = philox(key, draw, block);
  return make_float4(uniform_from(w.w[0]), uniform_from(w.w[1]), uniform_from(w.w[2]), uniform_from(w.w[3]));
}

}  // namespace
