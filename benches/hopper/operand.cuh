// How operands of products lie in shared memory.
#pragma once
#include "wgmma.cuh"

namespace {

// How an operand of LINES rows (or columns) lies in a stage and moves there.
template <int LINES, int K, int SIZE, bool MN>
struct Operand {
  // K-major: a row is one line, of 64 or 128 bytes. MN-major: K rows of 128 bytes for each chunk of lines.
  static constexpr int ROW = MN ? 128 : K * SIZE, CHUNK = 128 / SIZE;
  static constexpr int BOX_X = MN ? CHUNK : K, BOX_Y = MN ? K : LINES;  // of the tensor map
  static constexpr int BOX = BOX_X * BOX_Y * SIZE, BOXES = MN ? LINES / CHUNK : 1;
  static constexpr uint32_t STRIDE = 8 * ROW, LEADING = MN ? K * 128 : 16;
  static constexpr strait::Swizzle SWIZZLE = ROW == 128 ? strait::SWIZZLE_128 : strait::SWIZZLE_64;
  static constexpr uint64_t BITS = strait::descriptor_bits(LEADING, STRIDE, SWIZZLE);
  // From one instruction's elements of the sum to the next one's, and from one warpgroup's 64 lines to the next one's.
  static constexpr int ALONG = MN ? 32 / SIZE * 128 : 32, BY_64 = MN ? 64 / CHUNK * K * 128 : 64 * ROW;
  static_assert(ROW == 128 || ROW == 64, "whole patterns of the swizzle");
};

}  // namespace
