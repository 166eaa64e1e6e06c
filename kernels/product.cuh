// Matrix products: arguments, and where results go.
#pragma once
#include <type_traits>
#include "loader.cuh"
#include "parts.cuh"

namespace {

// out [m, n] = activation(a b + bias), for each of a batch. Twin of `Arguments` in src/device/cuda/matmul.rs. Strides are in elements.
struct Product {
  const void *a, *b;
  // The output of the activation that `a` is a cotangent after, laid out as `a` is; for the masked kernels.
  const void* mask;
  const void* bias;  // of n elements, or null
  void* out;
  void* sums;  // sums of a's rows, or null
  // Where splits leave their parts of `out` and, after them, of `sums`; null if there is one split.
  void* parts;
  // Counters of the blocks that have left the parts of a tile, of which the last one adds them up; null if another kernel does.
  uint32_t* arrived;
  uint64_t m, n, k;
  uint64_t a_row, a_col, b_row, b_col;
  // Each split sums `split_k` elements, a multiple of DEPTH below 2^31; its parts are `plane` elements further on.
  uint64_t split_k, plane;
  uint32_t splits, activation;
  double slope;
};

// The part of a product that a block computes.
struct Part {
  uint64_t row, col, batch, split;
  uint32_t counter;  // the tile's among those of all tiles
  __device__ __forceinline__ Part(const Product& p, uint32_t tile_m, uint32_t tile_n) {
    const uint32_t down = uint32_t((p.m + tile_m - 1) / tile_m);
    const uint32_t across = p.n == 0 ? 1 : uint32_t((p.n + tile_n - 1) / tile_n);
    const uint32_t tile = blockIdx.x % (down * across), rest = blockIdx.x / (down * across);
    row = uint64_t(tile % down) * tile_m;
    col = uint64_t(tile / down) * tile_n;
    split = rest % p.splits;
    batch = rest / p.splits;
    counter = uint32_t(batch) * (down * across) + tile;
  }
};

// Results to a row-major matrix: finished, then of type `Out`, or as a part of a sum.
template <class T, class Out = T>
struct MatrixStore {
  static constexpr bool SAME = std::is_same<T, Out>::value;
  void* out;
  T* sums;
  const Out* bias;
  int rows, cols;  // of the tile that there are, or more
  uint64_t stride;
  bool finished, whole;
  uint32_t activation;
  T slope;

  // To the results if they are `finished`, otherwise to the split's part.
  __device__ __forceinline__ MatrixStore(const Product& p, const Part& part, uint64_t split, bool finished_) : finished(finished_) {
    stride = p.n;
    rows = limited(p.m, part.row);
    cols = limited(p.n, part.col);
    const uint64_t at = (part.batch * p.m + part.row) * p.n + part.col;
    T* parts = static_cast<T*>(p.parts) + split * p.plane;
    out = finished ? static_cast<char*>(p.out) + at * sizeof(Out) : reinterpret_cast<char*>(parts + at);
    sums = (finished ? static_cast<T*>(p.sums) : parts + (p.plane - p.m)) + part.row;
    bias = finished && p.bias ? static_cast<const Out*>(p.bias) + part.col : nullptr;
    activation = finished ? p.activation : IDENTITY;
    slope = T(p.slope);
    whole = (SAME || !finished) && aligned16(static_cast<char*>(out)) && stride % CHUNK<T> == 0;
  }

  __device__ __forceinline__ void operator()(int row, int col, Pack<T> v) const {
    if (row >= rows || col >= cols) return;
    const int n = min(cols - col, CHUNK<T>);
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) {
      if (bias && i < n) v.v[i] += T(bias[col + i]);
      v.v[i] = activate(activation, slope, v.v[i]);
    }
    const uint64_t at = row * stride + col;
    if (whole && n == CHUNK<T>) {
      *reinterpret_cast<Pack<T>*>(static_cast<T*>(out) + at) = v;
    } else if (SAME || !finished) {
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i)
        if (i < n) static_cast<T*>(out)[at + i] = v.v[i];
    } else {
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i)
        if (i < n) static_cast<Out*>(out)[at + i] = Out(v.v[i]);
    }
  }

  __device__ __forceinline__ void sum(uint32_t row, T value) const {
    if (int(row) < rows) sums[row] = value;
  }

  // What was stored `apart` elements further on, if it was not finished; zeros where there is nothing.
  __device__ __forceinline__ Pack<T> load(int row, int col, uint64_t apart) const {
    Pack<T> v = {};
    if (row >= rows || col >= cols) return v;
    const T* from = static_cast<const T*>(out) + (row * stride + col + apart);
    if (whole && apart % CHUNK<T> == 0 && col + CHUNK<T> <= cols) return load_pack(from);
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i)
      if (col + i < cols) v.v[i] = from[i];
    return v;
  }

  __device__ __forceinline__ T load_sum(uint32_t row, uint64_t apart) const { return int(row) < rows ? sums[row + apart] : T(0); }
};

// The operands of a part of a product.
template <class T>
struct Operands {
  Lines<T> a, b;
  uint64_t a_offset;
  uint32_t k;

  __device__ __forceinline__ Operands(const Product& p, const Part& part, const Strided<2>& batches) {
    uint64_t at[2];
    batches.offsets(part.batch, at);
    const uint64_t first_k = part.split * p.split_k;
    k = share(p.k, part.split, p.split_k);
    a_offset = at[0] + part.row * p.a_row + first_k * p.a_col;
    a = {static_cast<const T*>(p.a) + a_offset, p.a_row, p.a_col, limited(p.m, part.row), p.m, p.k};
    b = {static_cast<const T*>(p.b) + at[1] + first_k * p.b_row + part.col * p.b_col, p.b_col, p.b_row, limited(p.n, part.col), p.n, p.k};
  }
};

// `shared` has Tile::SHARED elements.
template <class Tile, bool MASKED>
__device__ __forceinline__ void product(typename Tile::T* shared, const Product& p, const Strided<2>& batches) {
  using T = typename Tile::T;
  const Part part(p, Tile::M, Tile::N);
  const Operands<T> of(p, part, batches);
  const Mask<T> mask = {static_cast<const T*>(p.mask) + (MASKED ? of.a_offset : 0), p.activation, T(p.slope)};
  const bool sums = p.sums && part.col == 0;
  Results<Tile> results;
  in_order(of.a, of.b, !MASKED || aligned16(mask.output), [&](auto orders) {
    using With = decltype(orders);
    MatrixLoader<Tile, Tile::N, With::right> right(of.b);
    if constexpr (MASKED) {
      MaskedLoader<Tile, Tile::M, With::left> left(of.a, mask);
      multiply(shared, left, right, of.k, results, sums);
    } else {
      MatrixLoader<Tile, Tile::M, With::left> left(of.a);
      multiply(shared, left, right, of.k, results, sums);
    }
  });
  // With a mask the activation belongs to the operand, not to the result.
  auto store = [&](const Part& part, uint64_t split, bool finished) {
    MatrixStore<T> store(p, part, split, finished);
    if (MASKED) store.activation = IDENTITY;
    return store;
  };
  finish(shared, results, [&] {
    const Part part(p, Tile::M, Tile::N);
    return store(part, part.split, p.splits == 1);
  }, sums);
  if constexpr (ADDS_PARTS<Tile>) {
    if (!p.arrived) return;
    const Part tile(p, Tile::M, Tile::N);
    if (last_to_arrive(p.arrived + tile.counter, p.splits, shared))
      add_parts<Tile>(shared, store(tile, 0, false), store(tile, 0, true), p.splits, p.plane, sums);
  }
}

// out[i] = activation(sum of parts[s * plane + i] + bias[i / inner % channels]), and the sums that follow the `n` elements of each
// part without either. Twin of `SplitSum` in src/device/cuda/parts.rs.
struct SplitSum {
  const void *parts, *bias;
  void *out, *sums;
  uint64_t n, sum_count, plane, inner, channels;
  uint32_t splits, activation;
  double slope;
};

template <class T, class Out = T>
__device__ __forceinline__ void split_sum(const SplitSum& p) {
  const uint64_t i = global_index();
  if (i >= p.n + p.sum_count) return;
  const T* part = static_cast<const T*>(p.parts) + i;
  double sum = 0;
#pragma unroll 4
  for (uint32_t s = 0; s < p.splits; ++s) sum += double(part[s * p.plane]);
  T total = T(sum);
  if (i >= p.n) {
    static_cast<T*>(p.sums)[i - p.n] = total;
    return;
  }
  if (p.bias) total += T(static_cast<const Out*>(p.bias)[i / p.inner % p.channels]);
  static_cast<Out*>(p.out)[i] = Out(activate(p.activation, T(p.slope), total));
}

}  // namespace
