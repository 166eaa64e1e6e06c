// Sums over all pairs of rows, and their gradients with respect to the rows, in one pass: maximum mean discrepancy, kernel Stein
// discrepancy, pulling-away term. Memory grows with the rows alone.
//
// Tiles are squares of pairs. A block owns a tile's rows and goes through a slab of the tiles beside each other, so that what it adds to
// its rows needs neither atomics nor any other block: with a gradient a pair is looked at from both of its rows. Slabs depend on
// shapes alone, and a second kernel adds theirs in order. Distances are sums of squared differences, which lose no digits wherever
// the rows are; sums beyond a tile are in f64, since the pulls within and between samples nearly cancel.
#include "rows.cuh"

namespace {

// Two samples, [n, d] and [m, d], in blocks of rows: first those of the first. Twin of `Pairs` in src/device/cuda/args.rs.
struct Pairs {
  uint64_t n, m, d;
  uint32_t first, blocks;  // row blocks of the first sample, and of both
  uint32_t slab;           // tiles of a slab
  uint32_t wanted;         // bits 0 and 1: the gradient of the first and the second sample
  uint32_t own;            // whether pairs of a row with itself count
  uint32_t more;           // whether to add to what is there
  double weights[3];       // of the sums over unordered pairs within the first sample, between the two, within the second
};

// A sum of radial kernels of the squared distance u. Twin of `Radial` in src/device/cuda/args.rs.
struct Radial {
  uint32_t gaussian, count;
  double factor[16];  // Gaussian: -1 / (2 s^2). Inverse multiquadric: C.
  double slope[16];   // of k, or of k^2, in the pull; the largest is 1
};

// e^t - 1 and e^t for t <= 0: the CPU's polynomials (src/device/cpu/math/pair.rs).
__device__ __forceinline__ void exp_pair(float t, float& less, float& k) {
  t = t < -88.f ? -88.f : t;
  const float shifted = fmaf(t, 1.44269504f, 12582912.f), n = shifted - 12582912.f;
  const float r = fmaf(n, 2.1219444e-4f, fmaf(n, -0.6933594f, t));
  float p = fmaf(1.f / 5040.f, r, 1.f / 720.f);
  p = fmaf(p, r, 1.f / 120.f);
  p = fmaf(p, r, 1.f / 24.f);
  p = fmaf(p, r, 1.f / 6.f);
  p = fmaf(p, r, 0.5f);
  const float q = fmaf(p * r, r, r);
  const float power = __uint_as_float((__float_as_uint(shifted) << 23) + 0x3f800000u);
  less = fmaf(q, power, power - 1.f);
  k = fmaf(q, power, power);
}
__device__ __forceinline__ void exp_pair(double t, double& less, double& k) {
  t = t < -709. ? -709. : t;
  const double shifted = fma(t, 1.4426950408889634, 6755399441055744.), n = shifted - 6755399441055744.;
  const double r = fma(n, -1.9082149292705877e-10, fma(n, -0.6931471803691238, t));
  double p = fma(1. / 6227020800., r, 1. / 479001600.);
  p = fma(p, r, 1. / 39916800.);
  p = fma(p, r, 1. / 3628800.);
  p = fma(p, r, 1. / 362880.);
  p = fma(p, r, 1. / 40320.);
  p = fma(p, r, 1. / 5040.);
  p = fma(p, r, 1. / 720.);
  p = fma(p, r, 1. / 120.);
  p = fma(p, r, 1. / 24.);
  p = fma(p, r, 1. / 6.);
  p = fma(p, r, 0.5);
  const double q = fma(p * r, r, r);
  const double power = __longlong_as_double(int64_t((uint64_t(__double_as_longlong(shifted)) << 52) + 0x3ff0000000000000u));
  less = fma(q, power, power - 1.);
  k = fma(q, power, power);
}

// Without the slow path for subnormal numbers: scales and distances are none.
__device__ __forceinline__ float reciprocal(float x) { return __fdividef(1.f, x); }
__device__ __forceinline__ double reciprocal(double x) { return 1. / x; }

// The contribution of a pair: to the value `part` + `count`, to the pull on its row `moved` (b - a) + `own` a. The count of kernels above
// 1/2, whose parts are k - 1, is exact: sums keep the digits in which the samples differ, both where k is flat and where it is small.
template <class T>
struct Pull {
  T part, moved, own;
  int count;
};

template <class T>
struct RadialForm {
  static constexpr bool DISTANCE = true, PRODUCT = false, OWN = false;
  const Radial& radial;

  // Evaluates the pairs of a thread.
  template <int COUNT>
  __device__ __forceinline__ void evaluate(const T (&u)[COUNT], const T (&)[COUNT], Pull<T> (&out)[COUNT]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) out[i] = {T(0), T(0), T(0), 0};
    for (uint32_t scale = 0; scale < radial.count; ++scale) {
      const T factor = T(radial.factor[scale]), slope = T(radial.slope[scale]);
#pragma unroll
      for (int i = 0; i < COUNT; ++i) {
        T less, k;
        if (radial.gaussian) {
          exp_pair(u[i] * factor, less, k);
          out[i].moved = fma(slope, k, out[i].moved);
        } else {
          const T ratio = reciprocal(factor + u[i]);
          less = -(u[i] * ratio), k = factor * ratio;
          out[i].moved = fma(slope, k * k, out[i].moved);
        }
        const bool near = k > T(0.5);
        out[i].part += near ? less : k;
        out[i].count += near;
      }
    }
  }
};

// h = k (a.b + d / s^2 - u (1 / s^2 + 1 / s^4)) with k = exp(-u / (2 s^2)), the Stein kernel of the standard normal. With B the bracket,
// dh/da = k b - w (a - b) = (w + k) (b - a) + k a, w = k (2 (1 / s^2 + 1 / s^4) + B / s^2).
template <class T>
struct SteinForm {
  static constexpr bool DISTANCE = true, PRODUCT = true, OWN = true;
  T inverse, constant;  // 1 / s^2, d / s^2

  template <int COUNT>
  __device__ __forceinline__ void evaluate(const T (&u)[COUNT], const T (&product)[COUNT], Pull<T> (&out)[COUNT]) const {
    const T alpha = fma(inverse, inverse, inverse);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      T less, k;
      exp_pair(u[i] * (T(-0.5) * inverse), less, k);
      const T bracket = fma(-alpha, u[i], product[i] + constant);
      out[i] = {k * bracket, fma(k, fma(bracket, inverse, T(2) * alpha), k), k, 0};
    }
  }
};

// h = (a.b)^2, whose pull is taken without its factor 2 and before the rows' lengths are.
template <class T>
struct SquareForm {
  static constexpr bool DISTANCE = false, PRODUCT = true, OWN = false;

  template <int COUNT>
  __device__ __forceinline__ void evaluate(const T (&)[COUNT], const T (&product)[COUNT], Pull<T> (&out)[COUNT]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) out[i] = {product[i] * product[i], product[i], T(0), 0};
  }
};

// Consecutive rows of one sample, at most `SIDE`.
template <class T>
struct Rows {
  const T* x;
  uint64_t count, at;  // rows here; number of the first in its sample
  bool second;

  __device__ __forceinline__ Rows(const T* x, const T* y, const Pairs& p, uint32_t block, uint32_t side) {
    second = block >= p.first;
    at = uint64_t(second ? block - p.first : block) * side;
    count = min(uint64_t(side), (second ? p.m : p.n) - at);
    this->x = (second ? y : x) + at * p.d;
  }
};

template <class T>
struct Tile {
  static constexpr int COUNT = Pack<T>::COUNT;  // a thread has COUNT x COUNT pairs
  static constexpr int SIDE = 16 * COUNT;       // rows and columns
  static constexpr int DEPTH = 8 * COUNT;       // coordinates at a time
  static constexpr int STRIDE = SIDE + COUNT;   // of a line in shared memory
  static constexpr int FLUSH = 32 / COUNT;      // packs of columns whose pulls are added in T
  using Line = T[STRIDE];

  // Transposes coordinates [from, from + DEPTH) of rows into shared memory, zeros where there are none.
  static __device__ __forceinline__ void load(Line* to, const Rows<T>& rows, uint64_t from, uint64_t d) {
    for (int i = int(threadIdx.x); i < SIDE * DEPTH; i += 256) {
      const int row = i / DEPTH, k = i % DEPTH;
      to[k][row] = uint64_t(row) < rows.count && from + k < d ? rows.x[uint64_t(row) * d + from + k] : T(0);
    }
  }
};

// Thread (16 r + c) has rows COUNT r .. and columns COUNT c .. of a tile's pairs, and coordinates c + 16 i of what pulls these rows.
template <class T, class Form>
__device__ __forceinline__ void pairs(const T* x, const T* y, double* gradient, double* values, const Pairs& p, const Form& form) {
  using Tile = Tile<T>;
  constexpr int COUNT = Tile::COUNT, DEPTH = Tile::DEPTH, SIDE = Tile::SIDE;
  __shared__ __align__(16) T a[DEPTH][Tile::STRIDE], b[DEPTH][Tile::STRIDE], moved[SIDE][Tile::STRIDE];
  __shared__ double scratch[33];
  const int r = int(threadIdx.x) / 16, c = int(threadIdx.x) % 16;
  const uint32_t upper = blockIdx.x, begin = blockIdx.y * p.slab, end = min(begin + p.slab, p.blocks);
  const Rows<T> rows(x, y, p, upper, SIDE);
  const bool wanted = (p.wanted >> (rows.second ? 1 : 0)) & 1, deep = p.d > DEPTH;
  // The slabs' gradients: each [rows of the wanted samples, d].
  const uint64_t all = ((p.wanted & 1) ? p.n : 0) + ((p.wanted & 2) ? p.m : 0);
  const uint64_t before = rows.second && (p.wanted & 1) ? p.n : 0;
  double* const pulls = gradient + (blockIdx.y * all + before + rows.at) * p.d;
  bool fresh = !p.more;
  double value = 0;
  if (!deep) Tile::load(a, rows, 0, p.d);
  for (uint32_t lower = begin; lower < end; ++lower) {
    // Values are counted once.
    if (!wanted && lower < upper) continue;
    const Rows<T> columns(x, y, p, lower, SIDE);
    T u[COUNT * COUNT] = {}, product[COUNT * COUNT] = {};
    for (uint64_t from = 0; from < p.d; from += DEPTH) {
      __syncthreads();
      if (deep) Tile::load(a, rows, from, p.d);
      Tile::load(b, columns, from, p.d);
      __syncthreads();
      const int depth = int(min(uint64_t(DEPTH), p.d - from));
#pragma unroll 4
      for (int k = 0; k < depth; ++k) {
        const Pack<T> v = *reinterpret_cast<const Pack<T>*>(&a[k][COUNT * r]), w = *reinterpret_cast<const Pack<T>*>(&b[k][COUNT * c]);
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
#pragma unroll
          for (int j = 0; j < COUNT; ++j) {
            const T difference = v.v[i] - w.v[j];
            if (Form::DISTANCE) u[i * COUNT + j] = fma(difference, difference, u[i * COUNT + j]);
            if (Form::PRODUCT) product[i * COUNT + j] = fma(v.v[i], w.v[j], product[i * COUNT + j]);
          }
      }
    }
    Pull<T> pull[COUNT * COUNT];
    form.evaluate(u, product, pull);
    T part = 0, own[COUNT] = {};
    int count = 0;
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
#pragma unroll
      for (int j = 0; j < COUNT; ++j) {
        Pull<T>& one = pull[i * COUNT + j];
        const bool there = uint64_t(COUNT * r + i) < rows.count && uint64_t(COUNT * c + j) < columns.count;
        if (!there || (!p.own && upper == lower && COUNT * r + i == COUNT * c + j)) one = {T(0), T(0), T(0), 0};
        part += one.part;
        own[i] += one.own;
        count += one.count;
      }
    const double weight = p.weights[rows.second == columns.second ? (rows.second ? 2 : 0) : 1];
    // The tile on the diagonal holds each pair twice.
    if (lower >= upper) value += (double(part) + count) * (lower == upper ? 0.5 * weight : weight);
    if (!wanted) continue;
#pragma unroll
    for (int j = 0; j < COUNT; ++j) {
      Pack<T> line;
#pragma unroll
      for (int i = 0; i < COUNT; ++i) line.v[i] = pull[i * COUNT + j].moved;
      *reinterpret_cast<Pack<T>*>(&moved[COUNT * c + j][COUNT * r]) = line;
    }
    if (Form::OWN) {
#pragma unroll
      for (int i = 0; i < COUNT; ++i)
        for (int step = 8; step > 0; step /= 2) own[i] += __shfl_xor_sync(0xffffffffu, own[i], step);
    }
    for (uint64_t from = 0; from < p.d; from += DEPTH) {
      __syncthreads();
      if (deep) {
        Tile::load(a, rows, from, p.d);
        Tile::load(b, columns, from, p.d);
        __syncthreads();
      }
#pragma unroll
      for (int part = 0; part < DEPTH / 16; ++part) {
        const int k = c + 16 * part;
        const Pack<T> here = *reinterpret_cast<const Pack<T>*>(&a[k][COUNT * r]);
        double sums[COUNT] = {};
        for (int first = 0; first < SIDE / COUNT; first += Tile::FLUSH) {
          T pulled[COUNT] = {};
#pragma unroll 2
          for (int group = first; group < first + Tile::FLUSH; ++group) {
            const Pack<T> there = *reinterpret_cast<const Pack<T>*>(&b[k][COUNT * group]);
#pragma unroll
            for (int j = 0; j < COUNT; ++j) {
              const Pack<T> w = *reinterpret_cast<const Pack<T>*>(&moved[COUNT * group + j][COUNT * r]);
#pragma unroll
              for (int i = 0; i < COUNT; ++i) pulled[i] = fma(w.v[i], Form::DISTANCE ? there.v[j] - here.v[i] : there.v[j], pulled[i]);
            }
          }
#pragma unroll
          for (int i = 0; i < COUNT; ++i) sums[i] += double(pulled[i]);
        }
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
          if (from + k >= p.d || uint64_t(COUNT * r + i) >= rows.count) continue;
          double* const at = pulls + uint64_t(COUNT * r + i) * p.d + from + k;
          double sum = sums[i];
          if (Form::OWN) sum += double(own[i] * here.v[i]);
          *at = fresh ? weight * sum : fma(weight, sum, *at);
        }
      }
    }
    fresh = false;
  }
  value = strait::block_sum(value, scratch);
  if (threadIdx.x == 0) {
    double* const at = values + uint64_t(blockIdx.y) * gridDim.x + blockIdx.x;
    *at = p.more ? *at + value : value;
  }
}

// The slabs' pulls, in order.
__device__ __forceinline__ double sum_slabs(const double* pulls, uint64_t at, uint64_t slabs, uint64_t stride) {
  double sum = 0;
  for (uint64_t slab = 0; slab < slabs; ++slab) sum += pulls[slab * stride + at];
  return sum;
}

template <class T>
__device__ __forceinline__ void pull_sum(const double* pulls, T* out, uint64_t n, uint64_t slabs, uint64_t stride, double factor) {
  const uint64_t at = global_index();
  if (at < n) out[at] = T(factor * sum_slabs(pulls, at, slabs, stride));
}

// Rows of length 1 in f64, and 1 / length of each. A row of zeros stays one, and its scale is 0.
template <class T>
__device__ __forceinline__ void unit_rows(const T* x, double* unit, double* scales, uint64_t rows, uint64_t length, uint32_t size) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * length;
  const Share<T> share(team, x + first, some ? length : 0);
  double squares = 0;
  share.each([&](uint64_t, T v) { squares = fma(double(v), double(v), squares); });
  const double norm = sqrt(team.sum(squares)), scale = norm == 0 ? 0. : 1. / norm;
  share.each([=](uint64_t k, T v) { unit[first + k] = double(v) * scale; });
  if (some && team.rank == 0) scales[team.row] = scale;
}

// The gradient of the rows from that of the unit rows: its component along each row is removed.
template <class T>
__device__ __forceinline__ void cosine_grad(const double* pulls, const double* unit, const double* scales, T* out, uint64_t rows, uint64_t length,
                                            uint64_t slabs, double factor, uint32_t size) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * length, stride = rows * length, count = some ? length : 0;
  double along = 0;
  for (uint64_t k = team.rank; k < count; k += size) along = fma(sum_slabs(pulls, first + k, slabs, stride), unit[first + k], along);
  along = team.sum(along);
  const double scale = some ? scales[team.row] : 0;
  for (uint64_t k = team.rank; k < count; k += size) {
    const double pull = sum_slabs(pulls, first + k, slabs, stride) - along * unit[first + k];
    out[first + k] = scale == 0 ? T(0) : T(factor * scale * pull);
  }
}

}  // namespace

#define PAIRWISE(T, suffix)                                                                                                           \
  KERNEL_BOUNDS(radial_pairs_##suffix, (256, 2), const T* x, const T* y, double* gradient, double* values,                            \
                const __grid_constant__ Pairs shape, const __grid_constant__ Radial radial) {                                         \
    pairs(x, y, gradient, values, shape, RadialForm<T>{radial});                                                                      \
  }                                                                                                                                   \
  KERNEL_BOUNDS(stein_pairs_##suffix, (256, 2), const T* x, double* gradient, double* values, const __grid_constant__ Pairs shape,    \
                double inverse) {                                                                                                     \
    pairs(x, x, gradient, values, shape, SteinForm<T>{T(inverse), T(double(shape.d) * inverse)});                                     \
  }                                                                                                                                   \
  KERNEL(pull_sum_##suffix, 256, const double* pulls, T* out, uint64_t n, uint64_t slabs, uint64_t stride, double factor) {           \
    pull_sum(pulls, out, n, slabs, stride, factor);                                                                                   \
  }                                                                                                                                   \
  KERNEL(unit_rows_##suffix, 1024, const T* x, double* unit, double* scales, uint64_t rows, uint64_t length, uint32_t team) {         \
    unit_rows(x, unit, scales, rows, length, team);                                                                                   \
  }                                                                                                                                   \
  KERNEL(cosine_grad_##suffix, 1024, const double* pulls, const double* unit, const double* scales, T* out, uint64_t rows,            \
         uint64_t length, uint64_t slabs, double factor, uint32_t team) {                                                             \
    cosine_grad(pulls, unit, scales, out, rows, length, slabs, factor, team);                                                         \
  }

PAIRWISE(float, f32)
PAIRWISE(double, f64)

KERNEL_BOUNDS(square_pairs, (256, 2), const double* unit, double* gradient, double* values, const __grid_constant__ Pairs shape) {
  pairs(unit, unit, gradient, values, shape, SquareForm<double>{});
}
