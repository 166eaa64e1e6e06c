// Sums over all pairs of rows, and their gradients with respect to the rows, in one pass: maximum mean discrepancy, kernel Stein
// discrepancy, pulling-away term. Memory grows with the rows alone.
//
// Tiles are squares of pairs. A block owns a tile's rows and goes through a slab of the tiles beside each other, so that what it adds to
// its rows needs neither atomics nor any other block: with a gradient a pair is looked at from both of its rows. Slabs depend on
// shapes alone, and a second kernel adds theirs in order. Distances are sums of squared differences, which lose no digits wherever
// the rows are; sums beyond a tile are in f64, since the pulls within and between samples nearly cancel.
#include "pairwise.cuh"

namespace {

template <class T>
struct Tile {
  static constexpr int COUNT = Pack<T>::COUNT;  // a thread has COUNT x COUNT pairs
  static constexpr int SIDE = 16 * COUNT;       // rows and columns
  static constexpr int DEPTH = 8 * COUNT;       // coordinates at a time
  static constexpr int STRIDE = SIDE + COUNT;   // of a line in shared memory
  static constexpr int FLUSH = 32 / COUNT;      // packs of columns whose pulls are added in T
  using Line = T[STRIDE];

  // Transposes coordinates [from, from + DEPTH) of rows into shared memory, zeros where there are none. `whole`: whether rows are packs of
  // 16 bytes, each in one access. A warp reads two packs of each of sixteen rows: whole sectors, which it stores to different banks.
  static __device__ __forceinline__ void load(Line* to, const Rows<T>& rows, uint64_t from, uint64_t d, bool whole) {
    if (whole) {
#pragma unroll
      for (int i = 0; i < SIDE * DEPTH / COUNT / 256; ++i) {
        const int at = int(threadIdx.x) + i * 256, row = at / 128 * 16 + at / 2 % 16, k = (at / 32 % 4 * 2 + at % 2) * COUNT;
        Pack<T> pack = {};
        if (uint64_t(row) < rows.count && from + k < d) pack = load_pack(rows.x + (uint64_t(row) * d + from + k));
#pragma unroll
        for (int j = 0; j < COUNT; ++j) to[k + j][row] = pack.v[j];
      }
      return;
    }
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
  // The others were for the tensor cores.
  if (Form::DISTANCE && sizeof(T) == 4 && p.largest && !far_apart(p, upper, begin, end)) return;
  const Rows<T> rows(x, y, p, upper, SIDE);
  const bool wanted = rows.wanted(p), deep = p.d > DEPTH, whole = p.d % COUNT == 0 && aligned16(x) && aligned16(y);
  // The slabs' gradients: each [rows of the wanted samples, d].
  double* const pulls = gradient + rows.pulled(p, blockIdx.y) * p.d;
  bool fresh = !p.more;
  double value = 0;
  if (!deep) Tile::load(a, rows, 0, p.d, whole);
  for (uint32_t lower = begin; lower < end; ++lower) {
    // Values are counted once.
    if (!wanted && lower < upper) continue;
    const Rows<T> columns(x, y, p, lower, SIDE);
    T u[COUNT * COUNT] = {}, product[COUNT * COUNT] = {};
    for (uint64_t from = 0; from < p.d; from += DEPTH) {
      __syncthreads();
      if (deep) Tile::load(a, rows, from, p.d, whole);
      Tile::load(b, columns, from, p.d, whole);
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
    const double weight = rows.weight(p, columns);
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
        Tile::load(a, rows, from, p.d, whole);
        Tile::load(b, columns, from, p.d, whole);
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
