// A probe: a kernel's results against the CPU's, and its time.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "driver.h"

// What a probe found. What it has no number for is NaN.
struct Outcome {
  std::string differs;  // how the results differ from the CPU's; empty if they do not
  double error = NAN;   // root of the mean square, by that of the results
  double milliseconds = NAN, hertz = NAN;
  double operations = NAN;   // additions and multiplications of what was wanted, however they were done
  double least_clocks = NAN;  // by the model of bound.h

  bool broken = false;        // nothing works in this process any more

  // What is known of the results stays known where a launch fails here.
  void timed(Gpu& gpu, const std::function<void()>& launch) {
    try {
      const Time time = gpu.time(launch);
      milliseconds = time.milliseconds, hertz = time.hertz;
    } catch (const DriverError& error) {
      differs = (differs.empty() ? "right, but not timed: " : differs + "; not timed: ") + error.what();
      broken = true;
    }
  }
};

struct Probe {
  std::string name, shape, dtype;
  double elements;  // the shape's product
  std::function<Outcome(Gpu&)> run;
};

std::vector<Probe> layout_probes();
std::vector<Probe> box_probes();
std::vector<Probe> matmul_probes();
std::vector<Probe> split_probes();
std::vector<Probe> pair_probes();
std::vector<Probe> conv_probes();

// ---------------------------------------------------------------- numbers
inline uint32_t bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
inline float number(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
// To the nearest, ties to even.
inline uint16_t to_bf16(float x) {
  const uint32_t u = bits(x);
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
inline float of_bf16(uint16_t h) { return number(uint32_t(h) << 16); }
inline float of_results(float x) { return x; }
inline float of_results(uint16_t h) { return of_bf16(h); }

// Numbers from -1 to 1.
class Numbers {
 public:
  float next() { return float(int64_t(word() >> 24) - (int64_t(1) << 39)) * 0x1p-39f; }
  uint64_t below(uint64_t n) { return word() % n; }

 private:
  uint64_t word() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }
  uint64_t state_ = 88172645463325252ull;
};

// ---------------------------------------------------------------- results against the CPU's
class Comparison {
 public:
  void add(uint64_t at, double got, double want) { entries_.push_back({at, got, want}); }
  // Into an outcome: the error, and where it is more than allowed, which entries are wrong.
  void into(Outcome& outcome, double allowed) const {
    double errors = 0, all = 0;
    for (const Entry& e : entries_) errors += (e.got - e.want) * (e.got - e.want), all += e.want * e.want;
    outcome.error = std::sqrt(errors / all);
    if (outcome.error <= allowed) return;  // not if it is NaN
    const double much = 10 * allowed * std::sqrt(all / double(entries_.size()));
    uint64_t wrong = 0;
    const Entry* first = nullptr;
    for (const Entry& e : entries_)
      if (!(std::fabs(e.got - e.want) <= much) && !wrong++) first = &e;
    char text[200];
    int length = snprintf(text, sizeof text, "error %.1e for %.0e", std::fabs(outcome.error), allowed);
    if (first)
      snprintf(text + length, sizeof text - size_t(length), "; %llu of %zu entries are wrong, first number %llu: %.6g for %.6g",
               static_cast<unsigned long long>(wrong), entries_.size(), static_cast<unsigned long long>(first->at), first->got, first->want);
    outcome.differs = text;
  }

 private:
  struct Entry {
    uint64_t at;
    double got, want;
  };
  std::vector<Entry> entries_;
};
// The entries to compare: all of them, or where that costs the CPU too much, some.
template <class Entry>
void for_entries(uint64_t count, double operations_each, const Entry& entry) {
  constexpr double MOST = 3e8;
  if (double(count) * operations_each < MOST) {
    for (uint64_t i = 0; i < count; ++i) entry(i);
  } else {
    Numbers numbers;
    const int some = std::max(16, int(std::min(4096.0, MOST / operations_each)));
    for (int i = 0; i < some; ++i) entry(numbers.below(count));
  }
}

// The error that is allowed of a sum of so many products: that of its terms or result, and what tensor cores may lose by sums that they cut
// off instead of rounding. It is far below the error of a term that is missing.
inline double allowed(double rounding, double length) { return rounding + 2e-8 * length; }

// ---------------------------------------------------------------- operands
// `z` matrices of `y` rows of `x` numbers near 0.25, on the GPU as TF32's operands (`size` 4) or in planes of bf16 that add up to them. The
// map's third axis has the planes of each matrix in turn.
struct Operand {
  uint64_t x, y, z, pitch;
  int size, planes;
  std::vector<float> values;  // [z][y][x], as far as the GPU has them
  Buffer data;

  Operand(uint64_t x, uint64_t y, uint64_t z, int size, int planes, Numbers& numbers)
      : x(x), y(y), z(z), pitch((x * size + 15) / 16 * 16), size(size), planes(planes), values(x * y * z), data(lay_out(numbers)) {}
  CUtensorMap map(CUtensorMapDataType type, unsigned box_x, unsigned box_y, CUtensorMapSwizzle swizzle) const {
    return tensor_map(type, data, {{x, uint64_t(size), box_x}, {y, pitch, box_y}, {z * planes, pitch * y, 1}}, swizzle);
  }

 private:
  std::vector<unsigned char> lay_out(Numbers& numbers) {
    std::vector<unsigned char> host(pitch * y * z * planes, 0x7f);
    for (uint64_t row = 0; row < y * z; ++row)
      for (uint64_t column = 0; column < x; ++column) {
        float& v = values[row * x + column];
        v = numbers.next() + 0.25f;
        unsigned char* to = &host[(row / y * planes * y + row % y) * pitch + column * size];
        if (size == 4) {
          memcpy(to, &v, 4);
          continue;
        }
        const uint16_t high = to_bf16(v), low = to_bf16(v - of_bf16(high));
        memcpy(to, &high, 2);
        if (planes == 2) memcpy(to + pitch * y, &low, 2);
        else v = of_bf16(high);
      }
    return host;
  }
};
