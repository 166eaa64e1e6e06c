// Copies into parts of rows. Lengths count units of 1, 4, 8 or 16 bytes.
#include "rows.cuh"

namespace {

// Rows of `length` become rows of `total`, zero outside of what starts at `before`.
template <class Unit>
__device__ __forceinline__ void pad(const Unit* x, Unit* out, uint64_t n, uint64_t length, uint64_t before, uint64_t total) {
  const uint64_t at = global_index();
  if (at >= n) return;
  uint64_t within;
  const uint64_t row = divide(at, total, within);
  const bool inside = within >= before && within - before < length;
  out[at] = inside ? x[row * length + (within - before)] : Unit{};
}

// Writes rows of `length` into rows of `total`, from `before` on.
template <class Unit>
__device__ __forceinline__ void place(const Unit* x, Unit* out, uint64_t n, uint64_t length, uint64_t before, uint64_t total) {
  const uint64_t at = global_index();
  if (at >= n) return;
  uint64_t within;
  const uint64_t row = divide(at, length, within);
  out[row * total + before + within] = x[at];
}

}  // namespace

#define JOIN(Unit, bits)                                                                                                              \
  KERNEL(pad_##bits, 256, const Unit* x, Unit* out, uint64_t n, uint64_t length, uint64_t before, uint64_t total) {                  \
    pad(x, out, n, length, before, total);                                                                                            \
  }                                                                                                                                   \
  KERNEL(place_##bits, 256, const Unit* x, Unit* out, uint64_t n, uint64_t length, uint64_t before, uint64_t total) {                \
    place(x, out, n, length, before, total);                                                                                          \
  }

JOIN(uint8_t, 8)
JOIN(uint32_t, 32)
JOIN(uint64_t, 64)
JOIN(uint4, 128)
