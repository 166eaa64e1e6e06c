// The sums over pairs of pairwise.cu on the tensor cores, as two products of a tile: of its rows and columns, which gives the squared
// distances by |a|^2 + |b|^2 - 2 a.b, and of what the pairs pull with and the columns.
//
// Rows are sums of two bf16, less a centre near all of them. A squared distance is that between such sums, but for the rounding of f32
// relative to the rows' lengths. Blocks whose rows are too long for that are left to pairwise.cu, which takes them from the same grid.
#include "pairwise.cuh"
#include "tensor.cuh"

namespace {

constexpr int SIDE = 64;      // rows and columns of a tile, as in pairwise.cu
constexpr int WIDE = 64;      // coordinates at a time
constexpr int THREADS = 128;  // a warp has sixteen rows
constexpr int KEPT = 8;       // tiles whose pulls are added in f32
constexpr int PLANES = SplitBf16::PLANES;

// Rows as the tensor cores take them. Twin of `Split` in src/ops/divergence/cuda.rs.
struct Split {
  uint16_t* planes;  // two of bf16: [all rows, width], each sample filled up with zeros to whole blocks
  float* squares;    // of the sums of the planes: [all rows]
  float* largest;    // squares of each block
  uint64_t width;    // d, filled up to a multiple of WIDE
};

// The numbers that two words of the planes hold.
__device__ __forceinline__ float2 sum_of_planes(const uint32_t (&words)[PLANES]) {
  return make_float2(__uint_as_float(words[0] << 16) + __uint_as_float(words[1] << 16),
                     __uint_as_float(words[0] & 0xffff0000u) + __uint_as_float(words[1] & 0xffff0000u));
}

// The mean of at most 1,024 rows, evenly spaced: a centre need not be exact. A warp's lanes have neighbouring coordinates.
__device__ __forceinline__ void centre_rows(const float* x, const float* y, float* centre, uint64_t n, uint64_t m, uint64_t d) {
  __shared__ double parts[32][33];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint64_t column = uint64_t(blockIdx.x) * 32 + lane, rows = n + m, apart = (rows + 1023) / 1024;
  double sum = 0;
  if (column < d) {
#pragma unroll 8
    for (uint64_t row = warp * apart; row < rows; row += 32 * apart) sum += double((row < n ? x + row * d : y + (row - n) * d)[column]);
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= d) return;
  sum = 0;
  for (int i = 0; i < 32; ++i) sum += parts[i][lane];
  centre[column] = float(sum / double((rows + apart - 1) / apart));
}

// Splits the rows of a block, less the centre if there is one.
template <class T>
__device__ __forceinline__ void split_rows(const T* x, const T* y, const float* centre, const Pairs& p, const Split& to) {
  __shared__ float of_warp[8];
  const Rows<T> rows(x, y, p, blockIdx.x, SIDE);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint64_t plane = uint64_t(p.blocks) * SIDE * to.width;
  float largest = 0;
  for (uint32_t row = warp; row < SIDE; row += 8) {
    const uint64_t at = uint64_t(blockIdx.x) * SIDE + row;
    double squares = 0;
    for (uint64_t k = lane; k < to.width; k += 32) {
      const bool there = row < rows.count && k < p.d;
      const float v[2] = {there ? float(rows.x[row * p.d + k] - (centre ? T(centre[k]) : T(0))) : 0.f, 0.f};
      uint32_t words[PLANES];
      SplitBf16::convert(v, words);
#pragma unroll
      for (int i = 0; i < PLANES; ++i) to.planes[i * plane + at * to.width + k] = uint16_t(words[i]);
      const double sum = sum_of_planes(words).x;
      squares = fma(sum, sum, squares);
    }
    const float square = float(strait::warp_sum(squares));
    if (lane == 0) to.squares[at] = square;
    largest = larger(largest, square);
  }
  if (lane == 0) of_warp[warp] = largest;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < 8; ++i) largest = larger(largest, of_warp[i]);
  to.largest[blockIdx.x] = largest;
}

// A stage of shared memory: both planes of a tile's rows and of its columns, WIDE coordinates of each, and the columns' squares.
struct PairTile {
  using E = uint16_t;
  // 16 bytes more than a multiple of 128, so that eight lines of 16 bytes meet no conflict in either direction.
  static constexpr int BY_LINE = WIDE * 2 + 16, PLANE = SIDE * BY_LINE, OPERAND = PLANES * PLANE, STAGE = 2 * OPERAND + SIDE * 4;
  template <int>
  static constexpr int TRANSPOSED = BY_LINE;
};

// Begins to copy coordinates [from, from + WIDE) of a block's rows.
__device__ __forceinline__ void fetch_rows(unsigned char* to, const Split& split, uint32_t blocks, uint32_t block, uint64_t from) {
  const uint32_t row = threadIdx.x / 8, along = threadIdx.x % 8;
  const uint64_t plane = uint64_t(blocks) * SIDE * split.width;
  const uint16_t* source = split.planes + (uint64_t(block) * SIDE + row) * split.width + from + along * 8;
  to += row * PairTile::BY_LINE + along * 16;
#pragma unroll
  for (int i = 0; i < PLANES; ++i)
#pragma unroll
    for (int j = 0; j < SIDE; j += THREADS / 8)
      strait::cp_async<16>(to + i * PairTile::PLANE + j * PairTile::BY_LINE, source + i * plane + j * split.width);
}

// Adds the products of a warp's left operand and all columns, at `at` along the sum. Of both planes' small parts, too, if ALL.
template <bool ALL, class Lines>
__device__ __forceinline__ void multiply_columns(const Lines& lines, const uint32_t (&left)[PLANES][4], const unsigned char* columns, int at,
                                                 float (&sums)[8][4]) {
#pragma unroll
  for (int n = 0; n < 8; n += 2) {
    uint32_t right[PLANES][4];
#pragma unroll
    for (int i = 0; i < PLANES; ++i) lines.read(right[i], columns + i * PairTile::PLANE, n * 8, at);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t both[PLANES][2] = {{right[0][2 * half], right[0][2 * half + 1]}, {right[1][2 * half], right[1][2 * half + 1]}};
      if (ALL) strait::mma_m16n8k16_bf16(sums[n + half], left[1], both[1]);
      SplitBf16::multiply(sums[n + half], left, both);
    }
  }
}

// Adds the products of a warp's rows with all columns over the coordinates of a stage. All four products of the planes: the distance
// between equal rows is then 0, and no pair's is too small by the part that is left out.
__device__ __forceinline__ void multiply_rows(const unsigned char* rows, const unsigned char* columns, float (&products)[8][4]) {
  const TensorFragment<PairTile, SIDE, false, false> left_lines(threadIdx.x / 32 * 16);
  const TensorFragment<PairTile, SIDE, true, false> right_lines(0);
#pragma unroll
  for (int k = 0; k < WIDE; k += 16) {
    uint32_t left[PLANES][4];
#pragma unroll
    for (int i = 0; i < PLANES; ++i) left_lines.read(left[i], rows + i * PairTile::PLANE, 0, k);
    multiply_columns<true>(right_lines, left, columns, k, products);
  }
}

// Adds the product of what sixteen columns pull with and their coordinates.
__device__ __forceinline__ void multiply_pulls(const uint32_t (&left)[PLANES][4], const unsigned char* columns, int first, float (&pulled)[8][4]) {
  multiply_columns<false>(TensorFragment<PairTile, WIDE, true, true>(0), left, columns, first, pulled);
}

// Adds a thread's pulls on a row, from `at` on and 8 apart, of which `left` coordinates are there, to what is there, unless that is nothing
// yet. Whole rows in accesses of 16 bytes, of which four wait together for the memory.
__device__ __forceinline__ void add_pulls(double* at, const float (&pulled)[8][4], int half, double weight, int left, bool fresh) {
  auto pull = [&](int i, int j) { return weight * double(pulled[i][half * 2 + j]); };
  if (left > 7 * 8 + 1 && aligned16(at)) {
#pragma unroll
    for (int first = 0; first < 8; first += 4) {
      Pack<double> sums[4] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (!fresh) sums[i] = load_pack(at + (first + i) * 8);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums[i].v[0] += pull(first + i, 0), sums[i].v[1] += pull(first + i, 1);
        store_pack(at + (first + i) * 8, sums[i]);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j)
        if (i * 8 + j < left) at[i * 8 + j] = fresh ? pull(i, j) : at[i * 8 + j] + pull(i, j);
  }
}

// As `pairs` in pairwise.cu. Blocks along z have the pulls of WIDE coordinates each. Lane (4 g + t) has rows g and g + 8 of its warp's, and
// columns, or coordinates, 8 i + 2 t and the next: results of a product lie as the left operand of the next one does.
template <class Form>
__device__ __forceinline__ void pairs(const Split& split, double* gradient, double* values, const Pairs& p, const Form& form) {
  DYNAMIC_SHARED(unsigned char, shared);
  __shared__ double scratch[33], own_rows[SIDE];
  const uint32_t upper = blockIdx.x, begin = blockIdx.y * p.slab, end = min(begin + p.slab, p.blocks), chunk = blockIdx.z;
  if (p.largest && far_apart(p, upper, begin, end)) return;
  const Block rows(p, upper, SIDE);
  const bool wanted = rows.wanted(p);
  if (!wanted && chunk > 0) return;
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
  const uint32_t chunks = uint32_t(split.width / WIDE), first = wanted ? begin : max(begin, upper);
  const float* own_squares = split.squares + uint64_t(upper) * SIDE + row;
  const float own_square[2] = {own_squares[0], own_squares[8]};

  // The steps: each tile's chunks, of which the last is the one whose pulls are wanted. The rows stay where they are if they have one.
  uint32_t next = first, next_part = 0, step = 0;
  auto stage = [&](uint32_t step) { return shared + step % 2 * PairTile::STAGE; };
  auto rows_of = [&](uint32_t step) { return chunks > 1 ? stage(step) : shared; };
  auto fetch = [&](uint32_t step) {
    if (next < end) {
      const uint32_t at = chunk + 1 + next_part;
      const uint64_t from = uint64_t(at < chunks ? at : at - chunks) * WIDE;
      if (chunks > 1 || next == first) fetch_rows(rows_of(step), split, p.blocks, upper, from);
      fetch_rows(stage(step) + PairTile::OPERAND, split, p.blocks, next, from);
      if (threadIdx.x < SIDE / 4)
        strait::cp_async<16>(stage(step) + 2 * PairTile::OPERAND + threadIdx.x * 16, split.squares + uint64_t(next) * SIDE + threadIdx.x * 4);
      if (++next_part == chunks) next_part = 0, ++next;
    }
    strait::cp_async_commit();
  };
  fetch(0);

  double value = 0, own_totals[2] = {};
  float pulled[8][4] = {}, own[2] = {};
  bool fresh = !p.more;
#pragma unroll 1
  for (uint32_t lower = first; lower < end; ++lower) {
    const Block columns(p, lower, SIDE);
    float products[8][4] = {};
    const unsigned char* there = shared;
#pragma unroll 1
    for (uint32_t part = 0; part < chunks; ++part, ++step) {
      strait::cp_async_wait<0>();
      __syncthreads();
      fetch(step + 1);
      there = stage(step) + PairTile::OPERAND;
      multiply_rows(rows_of(step), there, products);
    }
    const float* squares = reinterpret_cast<const float*>(there + PairTile::OPERAND) + column;
    const bool all = rows.count == SIDE && columns.count == SIDE && upper != lower;
    float sum = 0;
    int count = 0;
#pragma unroll
    for (int group = 0; group < SIDE; group += 16) {
      float u[8], product[8];
      Pull<float> pull[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        product[i] = products[group / 8 + i / 4][i % 4];
        // Perhaps a little less than 0, which the forms take.
        u[i] = Form::DISTANCE ? fmaf(-2.f, product[i], own_square[i / 2 % 2] + squares[group + i / 4 * 8 + i % 2]) : 0.f;
      }
      auto itself = [&](int i) { return upper == lower && row + i / 2 % 2 * 8 == group + i / 4 * 8 + column + i % 2; };
      if (!all) {
#pragma unroll
        for (int i = 0; i < 8; ++i) u[i] = itself(i) ? 0.f : u[i];
      }
      form.evaluate(u, product, pull);
      if (!all) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int r = row + i / 2 % 2 * 8, c = group + i / 4 * 8 + column + i % 2;
          if (uint64_t(r) >= rows.count || uint64_t(c) >= columns.count || (!p.own && itself(i))) pull[i] = {0.f, 0.f, 0.f, 0};
          // Exactly nothing: the pulls of others may be much smaller than a row.
          if (Form::DISTANCE && itself(i)) pull[i].moved = 0;
        }
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) sum += pull[i].part, count += pull[i].count;
      if (!wanted) continue;
      uint32_t left[PLANES][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float moved[2] = {pull[2 * i].moved, pull[2 * i + 1].moved};
        uint32_t words[PLANES];
        SplitBf16::convert(moved, words);
        left[0][i] = words[0], left[1][i] = words[1];
        // Of what the planes hold, so that a centre far from the rows cancels.
        const float2 split = sum_of_planes(words);
        if (Form::DISTANCE) own[i % 2] -= split.x + split.y;
        if (Form::OWN) own[i % 2] += pull[2 * i].own + pull[2 * i + 1].own;
      }
      multiply_pulls(left, there, group, pulled);
    }
    const double weight = rows.weight(p, columns);
    if (lower >= upper) value += (double(sum) + count) * (lower == upper ? 0.5 * weight : weight);
    // Before the weight changes, too.
    if (!wanted || ((lower + 1) % KEPT != 0 && lower + 1 != end && lower + 1 != p.first)) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      own_totals[half] = fma(weight, double(own[half]), own_totals[half]), own[half] = 0;
      if (uint64_t(row + half * 8) < rows.count) {
        const uint64_t k = uint64_t(chunk) * WIDE + column;
        const int left = k < p.d ? int(min(p.d - k, uint64_t(WIDE))) : 0;
        add_pulls(gradient + (rows.pulled(p, blockIdx.y) + row + half * 8) * p.d + k, pulled, half, weight, left, fresh);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) pulled[i][j] = 0;
    fresh = false;
  }
  if (chunk == 0) {
    value = strait::block_sum(value, scratch);
    double* const at = values + uint64_t(blockIdx.y) * gridDim.x + blockIdx.x;
    if (threadIdx.x == 0) *at = p.more ? *at + value : value;
  }
  if (!wanted) return;
  // The rows' own part, with neighbouring coordinates in neighbouring threads.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    double own_total = own_totals[half];
    for (int step = 1; step < 4; step *= 2) own_total += __shfl_xor_sync(0xffffffffu, own_total, step);
    if (column == 0) own_rows[row + half * 8] = own_total;
  }
  __syncthreads();
  const uint64_t at = uint64_t(upper) * SIDE * split.width + uint64_t(chunk) * WIDE, plane = uint64_t(p.blocks) * SIDE * split.width;
  double* const pulls = gradient + rows.pulled(p, blockIdx.y) * p.d + uint64_t(chunk) * WIDE;
#pragma unroll 1
  for (int i = threadIdx.x; i < int(rows.count) * WIDE; i += THREADS) {
    const int r = i / WIDE, k = i % WIDE;
    if (uint64_t(chunk) * WIDE + k >= p.d) continue;
    const uint16_t* here = split.planes + at + r * split.width + k;
    const uint32_t words[PLANES] = {here[0], here[plane]};
    pulls[r * p.d + k] = fma(own_rows[r], double(sum_of_planes(words).x), pulls[r * p.d + k]);
  }
}

}  // namespace

KERNEL(centre_rows_f32, 1024, const float* x, const float* y, float* centre, uint64_t n, uint64_t m, uint64_t d) { centre_rows(x, y, centre, n, m, d); }
KERNEL(split_rows_f32, 256, const float* x, const float* y, const float* centre, const __grid_constant__ Pairs shape, const __grid_constant__ Split to) {
  split_rows(x, y, centre, shape, to);
}
KERNEL(split_rows_f64, 256, const double* x, const double* y, const float* centre, const __grid_constant__ Pairs shape, const __grid_constant__ Split to) {
  split_rows(x, y, centre, shape, to);
}
KERNEL_BOUNDS(radial_pairs_f32x3, (128, 3), const __grid_constant__ Split split, double* gradient, double* values,
              const __grid_constant__ Pairs shape, const __grid_constant__ Radial radial) {
  pairs(split, gradient, values, shape, RadialForm<float>{radial});
}
KERNEL_BOUNDS(stein_pairs_f32x3, (128, 3), const __grid_constant__ Split split, double* gradient, double* values,
              const __grid_constant__ Pairs shape, double inverse) {
  pairs(split, gradient, values, shape, SteinForm<float>{float(inverse), float(double(shape.d) * inverse)});
}
KERNEL_BOUNDS(square_pairs_f32x3, (128, 3), const __grid_constant__ Split split, double* gradient, double* values,
              const __grid_constant__ Pairs shape) {
  pairs(split, gradient, values, shape, SquareForm<float>{});
}
