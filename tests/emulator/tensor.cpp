// Tensor-core instructions and asynchronous copies.
#include "runtime.h"

namespace emu {
// Land as late as the manual allows, when they are waited for; until then the destination holds garbage.
static void land(const Copy& c) {
#ifdef EMU_INSTRUMENTED
#ifdef EMU_RACE
  const long lint = options.lint;
  if (lint) {  // one request on each side, not one per word
    if (c.valid) lint_access(uintptr_t(c.from), unsigned(c.bytes), false, false, c.site);
    lint_access(uintptr_t(c.to), unsigned(c.bytes), true, true, static_cast<const char*>(c.site) + 1);
  }
  options.lint = 0;
#endif
  if (c.valid) access(uintptr_t(c.from), unsigned(c.valid), false, false, c.site);
  access(uintptr_t(c.to), unsigned(c.bytes), true, false, c.site);
#ifdef EMU_RACE
  options.lint = lint;
#endif
#endif
  memcpy(c.to, c.from, size_t(c.valid));
  memset(static_cast<char*>(c.to) + c.valid, 0, size_t(c.bytes - c.valid));
}
void cp_async(void* to, const void* from, int bytes, int valid, const void* site) {
  Fiber* f = me();
  if (uintptr_t(to) % unsigned(bytes) || uintptr_t(from) % unsigned(bytes))
    fail(MISALIGNED, format("%s: misaligned asynchronous copy at %s", who(f).c_str(), line_of(site).c_str()));
#ifdef EMU_INSTRUMENTED
  access(uintptr_t(to), unsigned(bytes), true, false, site);
#endif
#ifdef EMU_RACE
  forget_initialised(uintptr_t(to), unsigned(bytes));
#endif
  memset(to, 0xff, size_t(bytes));
  f->copies.push_back({to, from, bytes, valid, f->copy_group, site});
}
void cp_async_commit() { me()->copy_group++; }
void cp_async_wait(unsigned groups) {
  Fiber* f = me();
  size_t left = 0;
  for (auto& copy : f->copies) {
    if (copy.group + groups < f->copy_group) land(copy);
    else f->copies[left++] = copy;
  }
  f->copies.resize(left);
}

static float bits(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
static float half_bits(uint32_t h) {
  uint32_t sign = h >> 15 << 31, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 31) return bits(sign | 0x7f800000u | fraction << 13);
  if (exponent) return bits(sign | (exponent + 112) << 23 | fraction << 13);
  float subnormal = float(fraction) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}
struct Fragments { uint32_t a[4], b[2]; };
template <int K, class Read>
static void multiply(float (&d)[4], const Slot* slots, Read read) {
  auto at = [&](unsigned lane) { return reinterpret_cast<const Fragments*>(slots[lane]); };
  const unsigned group = self->lane >> 2, t = self->lane & 3;
  for (int k = 0; k < K; ++k) {
    // Which register of which lane holds column k of A and row k of B.
    const int half = K == 16 ? k / 8 : k / 4, lane = K == 16 ? k % 8 / 2 : k % 4, part = k & 1;
    const Fragments *a = at(group * 4 + unsigned(lane)), *b0 = at(2 * t * 4 + unsigned(lane)), *b1 = at((2 * t + 1) * 4 + unsigned(lane));
    const float a0 = read(a->a[2 * half], part), a1 = read(a->a[2 * half + 1], part), x0 = read(b0->b[half], part), x1 = read(b1->b[half], part);
    d[0] += a0 * x0, d[1] += a0 * x1, d[2] += a1 * x0, d[3] += a1 * x1;
  }
}
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MmaType type, const void* site) {
  Fragments own;
  memcpy(own.a, a, sizeof a);
  memcpy(own.b, b, sizeof b);
  unsigned present;
  const Slot* slots = warp_exchange(0xffffffffu, MMA, &own, sizeof own, site, &present);
  if (present != 0xffffffffu) fail(LAUNCH_FAILED, format("mma.sync by an incomplete warp at %s", line_of(site).c_str()));
  // The hardware ignores the low bits of a TF32 operand: what was not rounded before is truncated.
  if (type == TF32) multiply<8>(d, slots, [](uint32_t r, int) { return bits(r & ~0x1fffu); });
  if (type == BF16) multiply<16>(d, slots, [](uint32_t r, int high) { return bits(high ? r & 0xffff0000u : r << 16); });
  if (type == F16) multiply<16>(d, slots, [](uint32_t r, int high) { return half_bits(high ? r >> 16 : r & 0xffff); });
}
// Lane 8 i + j gives the address of row j of matrix i; lane l receives two elements of row l / 4 of each.
void ldmatrix(uint32_t* registers, int count, bool transposed, const void* row, const void* site) {
  if (int(self->lane) < 8 * count) {
    if (uintptr_t(row) % 16) fail(MISALIGNED, format("%s: misaligned row of ldmatrix at %s", who(self).c_str(), line_of(site).c_str()));
#ifdef EMU_INSTRUMENTED
    access(uintptr_t(row), 16, false, false, site);
#endif
  }
  unsigned present;
  struct { const void* row; } own{row};
  const Slot* slots = warp_exchange(0xffffffffu, LDMATRIX, &own, sizeof own, site, &present);
  if (present != 0xffffffffu) fail(LAUNCH_FAILED, format("ldmatrix by an incomplete warp at %s", line_of(site).c_str()));
  const unsigned r = self->lane >> 2, c = (self->lane & 3) * 2;
  auto element = [&](unsigned matrix, unsigned i, unsigned j) {
    const uint16_t* p;
    memcpy(&p, slots[matrix * 8 + i], sizeof p);
    return uint32_t(p[j]);
  };
  for (unsigned m = 0; m < unsigned(count); ++m)
    registers[m] = transposed ? element(m, c, r) | element(m, c + 1, r) << 16 : element(m, r, c) | element(m, r, c + 1) << 16;
}
}  // namespace emu
