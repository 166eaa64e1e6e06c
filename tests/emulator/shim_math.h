// CUDA's arithmetic that C++ has no name for. Results are those of the host's IEEE arithmetic: __expf and its like are more accurate
// than on a GPU, and nothing is contracted to a fused multiply-add that does not ask for one.
#pragma once

#define EMU_MATH static inline
// glibc declares __expf and its like for itself: macros.
#define __expf expf
#define __exp10f(x) powf(10.f, x)
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __sincosf sincosf
EMU_MATH float __saturatef(float x) { return x < 0.f ? 0.f : x > 1.f ? 1.f : x == x ? x : 0.f; }
// Newer C libraries have some of these.
EMU_MATH float emu_rsqrtf(float x) { return 1.f / sqrtf(x); }
EMU_MATH double emu_rsqrt(double x) { return 1.0 / sqrt(x); }
EMU_MATH float emu_sinpif(float x) { return float(sin(M_PI * fmod(double(x), 2.0))); }
EMU_MATH float emu_cospif(float x) { return float(cos(M_PI * fmod(double(x), 2.0))); }
EMU_MATH float emu_normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
EMU_MATH double emu_normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
#define rsqrtf emu_rsqrtf
#define rsqrt emu_rsqrt
#define sinpif emu_sinpif
#define cospif emu_cospif
#define normcdff emu_normcdff
#define normcdf emu_normcdf

// Explicitly rounded.
EMU_MATH float __fadd_rn(float a, float b) { return a + b; }
EMU_MATH float __fsub_rn(float a, float b) { return a - b; }
EMU_MATH float __fmul_rn(float a, float b) { return a * b; }
EMU_MATH float __fdiv_rn(float a, float b) { return a / b; }
EMU_MATH float __fdividef(float a, float b) { return a / b; }
EMU_MATH float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMU_MATH float __frcp_rn(float a) { return 1.f / a; }
EMU_MATH float __fsqrt_rn(float a) { return sqrtf(a); }
EMU_MATH float __frsqrt_rn(float a) { return float(1.0 / sqrt(double(a))); }
EMU_MATH double __dadd_rn(double a, double b) { return a + b; }
EMU_MATH double __dsub_rn(double a, double b) { return a - b; }
EMU_MATH double __dmul_rn(double a, double b) { return a * b; }
EMU_MATH double __ddiv_rn(double a, double b) { return a / b; }
EMU_MATH double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
EMU_MATH double __drcp_rn(double a) { return 1.0 / a; }
EMU_MATH double __dsqrt_rn(double a) { return sqrt(a); }

// Bits.
template <class To, class From>
EMU_MATH To emu_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
EMU_MATH unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
EMU_MATH int __float_as_int(float x) { return emu_bits<int>(x); }
EMU_MATH float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
EMU_MATH float __int_as_float(int x) { return emu_bits<float>(x); }
EMU_MATH long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
EMU_MATH double __longlong_as_double(long long x) { return emu_bits<double>(x); }
EMU_MATH int __double2hiint(double x) { return int(emu_bits<uint64_t>(x) >> 32); }
EMU_MATH int __double2loint(double x) { return int(uint32_t(emu_bits<uint64_t>(x))); }
EMU_MATH double __hiloint2double(int hi, int lo) { return emu_bits<double>(uint64_t(uint32_t(hi)) << 32 | uint32_t(lo)); }
EMU_MATH int __popc(unsigned x) { return __builtin_popcount(x); }
EMU_MATH int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_MATH int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
EMU_MATH int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }
EMU_MATH int __ffs(int x) { return __builtin_ffs(x); }
EMU_MATH int __ffsll(long long x) { return __builtin_ffsll(x); }
EMU_MATH unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
  return r;
}
EMU_MATH unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
EMU_MATH int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
EMU_MATH unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)(((unsigned __int128)a * b) >> 64); }
EMU_MATH unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s) { return unsigned((uint64_t(hi) << 32 | lo) << (s & 31) >> 32); }
EMU_MATH unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) { return unsigned((uint64_t(hi) << 32 | lo) >> (s & 31)); }
EMU_MATH unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  uint64_t both = uint64_t(b) << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned byte = unsigned(both >> (8 * (s >> (4 * i) & 7))) & 0xff;
    if (s >> (4 * i) & 8) byte = byte & 0x80 ? 0xff : 0;
    r |= byte << (8 * i);
  }
  return r;
}

// Conversions. To integers they saturate, and NaN becomes 0, as on a GPU.
template <class I, class F>
EMU_MATH I emu_saturate(F x) {
  if (x != x) return 0;
  const F top = ldexp(F(1), int(sizeof(I)) * 8 - (std::is_signed_v<I> ? 1 : 0));
  if (x >= top) return std::is_signed_v<I> ? I((uint64_t(1) << (sizeof(I) * 8 - 1)) - 1) : I(~uint64_t(0));
  if (x < (std::is_signed_v<I> ? -top : F(0))) return std::is_signed_v<I> ? I(uint64_t(1) << (sizeof(I) * 8 - 1)) : I(0);
  return I(x);
}
#define EMU_TO_INT(from, F, name, I)                                                       \
  EMU_MATH I __##from##2##name##_rn(F x) { return emu_saturate<I>(nearbyint(x)); }         \
  EMU_MATH I __##from##2##name##_rz(F x) { return emu_saturate<I>(trunc(x)); }             \
  EMU_MATH I __##from##2##name##_rd(F x) { return emu_saturate<I>(floor(x)); }             \
  EMU_MATH I __##from##2##name##_ru(F x) { return emu_saturate<I>(ceil(x)); }
EMU_TO_INT(float, float, int, int)
EMU_TO_INT(float, float, uint, unsigned)
EMU_TO_INT(float, float, ll, long long)
EMU_TO_INT(float, float, ull, unsigned long long)
EMU_TO_INT(double, double, int, int)
EMU_TO_INT(double, double, uint, unsigned)
EMU_TO_INT(double, double, ll, long long)
EMU_TO_INT(double, double, ull, unsigned long long)
EMU_MATH float __double2float_rn(double x) { return float(x); }
EMU_MATH float __int2float_rn(int x) { return float(x); }
EMU_MATH float __uint2float_rn(unsigned x) { return float(x); }
EMU_MATH float __ll2float_rn(long long x) { return float(x); }
EMU_MATH float __ull2float_rn(unsigned long long x) { return float(x); }
EMU_MATH double __int2double_rn(int x) { return x; }
EMU_MATH double __uint2double_rn(unsigned x) { return x; }
EMU_MATH double __ll2double_rn(long long x) { return double(x); }
EMU_MATH double __ull2double_rn(unsigned long long x) { return double(x); }

// The toolkit has no host path for the fused half operations: exact in double, rounded once.
EMU_MATH __half __hfma(__half a, __half b, __half c) { return __double2half(fma(double(__half2float(a)), double(__half2float(b)), double(__half2float(c)))); }
EMU_MATH __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __double2bfloat16(fma(double(__bfloat162float(a)), double(__bfloat162float(b)), double(__bfloat162float(c))));
}
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) return std::is_same_v<C, float> ? C(fminf(float(a), float(b))) : C(fmin(double(a), double(b)));
  else return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) return std::is_same_v<C, float> ? C(fmaxf(float(a), float(b))) : C(fmax(double(a), double(b)));
  else return C(a) < C(b) ? C(b) : C(a);
}
