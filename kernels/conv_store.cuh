// What convolutions count by, and the store of their results.
#pragma once
#include "tile.cuh"
#include "window.cuh"

namespace {

// The three digits of a number that grows by a fixed step.
struct Counter {
  uint32_t major, row, col;
  uint32_t rows, cols, step_major, step_row, step_col;

  __device__ __forceinline__ Counter(uint64_t first, uint32_t step, uint32_t rows_, uint32_t cols_) : rows(max(rows_, 1u)), cols(max(cols_, 1u)) {
    const uint64_t line = divide(first, cols), high = divide(line, rows);
    col = uint32_t(first - line * cols);
    row = uint32_t(line - high * rows);
    major = uint32_t(high);
    const uint32_t step_line = step / cols;
    step_col = step - step_line * cols;
    step_major = step_line / rows;
    step_row = step_line - step_major * rows;
  }

  __device__ __forceinline__ void advance() {
    col += step_col;
    const bool next_row = col >= cols;
    if (next_row) col -= cols;
    row += step_row + next_row;
    const bool next = row >= rows;
    if (next) row -= rows;
    major += step_major + next;
  }
};

// Results to images, of which a column of the product is a pixel and a row a channel.
template <class T, class Out = T>
struct ImageStore {
  struct __align__(CHUNK<T> * sizeof(Out)) Chunk {
    Out v[CHUNK<T>];
  };
  Out* out;
  const Out* bias;
  int rows, cols;                    // of the tile that there are, or more
  uint32_t first, height, width;     // the tile's first column within its image; columns of an image
  uint64_t image, plane;             // elements from image to image and from channel to channel
  uint32_t down, right;              // elements from column to column
  bool whole;                        // whether chunks are written as a whole

  // `to` is the first image's first column.
  __device__ __forceinline__ ImageStore(Out* to, const Out* bias_, uint64_t row, uint64_t col, uint64_t rows_, uint64_t batch, uint64_t plane_,
                                        uint32_t height_, uint32_t width_, uint32_t down_, uint32_t right_)
      : height(height_), width(width_), image(rows_ * plane_), plane(plane_), down(down_), right(right_) {
    const uint64_t per_image = uint64_t(height) * width, n = divide(col, per_image);
    rows = limited(rows_, row);
    cols = limited(batch * per_image, col);
    first = uint32_t(col - n * per_image);
    out = to + n * image + row * plane;
    bias = bias_ ? bias_ + row : nullptr;
    whole = right == 1 && down == width && reinterpret_cast<uintptr_t>(out) % sizeof(Chunk) == 0 && plane % CHUNK<T> == 0 && per_image % CHUNK<T> == 0;
  }

  __device__ __forceinline__ void operator()(int row, int col, Pack<T> v) const {
    if (row >= rows || col >= cols) return;
    const T add = bias ? T(bias[row]) : T(0);
    uint32_t at = first + col;
    const uint32_t n = at / (height * width);
    at -= n * (height * width);
    Out* to = out + n * image + row * plane;
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) chunk.v[i] = Out(v.v[i] + add);
    if (whole) {
      *reinterpret_cast<Chunk*>(to + at) = chunk;
      return;
    }
    uint32_t y = at / width, x = at - y * width;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) {
      if (col + i < cols) to[uint64_t(y) * down + uint64_t(x) * right] = chunk.v[i];
      if (++x == width) {
        x = 0;
        if (++y == height) {
          y = 0;
          to += image;
        }
      }
    }
  }

  // What was stored `apart` elements further on, without a bias; zeros where there is nothing.
  __device__ __forceinline__ Pack<T> load(int row, int col, uint64_t apart) const {
    Pack<T> v = {};
    if (row >= rows || col >= cols) return v;
    uint32_t at = first + col;
    const uint32_t n = at / (height * width);
    at -= n * (height * width);
    const T* from = out + n * image + row * plane + apart;
    if (whole && apart % CHUNK<T> == 0) return load_pack(from + at);
    uint32_t y = at / width, x = at - y * width;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) {
      if (col + i < cols) v.v[i] = from[uint64_t(y) * down + uint64_t(x) * right];
      if (++x == width) {
        x = 0;
        if (++y == height) {
          y = 0;
          from += image;
        }
      }
    }
    return v;
  }

  __device__ __forceinline__ void sum(uint32_t, T) const {}
  __device__ __forceinline__ T load_sum(uint32_t, uint64_t) const { return 0; }
};

}  // namespace
