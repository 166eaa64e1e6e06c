// Gaussian kernels of all pairs and their pulls, by pairs.cu: distances, exponentials and pulls in one kernel, whose left operands come from
// registers.
#include "bound.h"
#include "probe.h"

// Twin of `Pairs` in pairs.cu.
struct Pairs {
  const float* squares;
  float *sums, *pulls;
  uint32_t rows, first, last;
  float scale;
};

static Outcome pairs(Gpu& gpu, unsigned rows, unsigned first, unsigned last) {
  constexpr unsigned D = 64;
  const unsigned blocks = (rows + 127) / 128;
  const Launch launch = gpu.kernel("pairs", "pairs_64", blocks, 384, 2 * 128 * 128 + 4 * (2 * 128 * 128) + 4 * 128 * 4 + 80);
  Numbers numbers;
  const Operand z(D, rows, 1, 2, 2, numbers);
  const float scale = 1.44269504f / 32;
  std::vector<float> squares((rows + 3) / 4 * 4);
  for (unsigned i = 0; i < rows; ++i) {
    double square = 0;
    for (unsigned l = 0; l < D; ++l) {
      // What the two planes add up to.
      const float v = z.values[i * D + l], high = of_bf16(to_bf16(v));
      const double sum = double(high) + of_bf16(to_bf16(v - high));
      square += sum * sum;
    }
    squares[i] = float(scale * square);
  }
  const Buffer device_squares(squares), device_sums(rows * 4), device_pulls(size_t(rows) * D * 4);
  const CUtensorMap map = z.map(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 64, 128, CU_TENSOR_MAP_SWIZZLE_128B);
  const uint64_t bytes = squares.size() * 4;
  const CUtensorMap map_squares = tensor_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, device_squares, {{rows, 4, 128}, {1, bytes, 1}, {1, bytes, 1}},
                                             CU_TENSOR_MAP_SWIZZLE_NONE);
  const Pairs p{device_squares.pointer<float>(), device_sums.pointer<float>(), device_pulls.pointer<float>(), rows, first, last, scale};
  auto run = [&] { launch({&map, &map_squares, &p}); };
  run();
  const auto sums = device_sums.read<float>(), pulls = device_pulls.read<float>();
  Comparison of_sums, of_gradients;
  for_entries(rows, double(last - first) * D * 2, [&](uint64_t i) {
    double sum = 0, pull[D] = {};
    for (uint64_t j = first; j < last; ++j) {
      if (j == i) continue;
      const float *own = &z.values[i * D], *other = &z.values[j * D];
      double distance = 0;
      for (unsigned l = 0; l < D; ++l) distance += (double(own[l]) - other[l]) * (double(own[l]) - other[l]);
      const double k = std::exp2(-double(scale) * distance);
      sum += k;
      for (unsigned l = 0; l < D; ++l) pull[l] += k * other[l];
    }
    of_sums.add(i, sums[i], sum);
    // Sums and pulls as a gradient takes them, in which they nearly cancel.
    for (unsigned l = 0; l < D; ++l)
      of_gradients.add(i * D + l, double(sums[i]) * z.values[i * D + l] - pulls[i * D + l], sum * z.values[i * D + l] - pull[l]);
  });
  Outcome outcome;
  of_sums.into(outcome, allowed(2e-5, last - first));
  if (outcome.differs.empty()) of_gradients.into(outcome, allowed(5e-5, 3 * (last - first)));
  else outcome.differs = "sums: " + outcome.differs;
  outcome.timed(gpu, run);
  outcome.operations = 4.0 * rows * (last - first) * D;
  // Distances are 12 instructions of 64 x 128 for each warpgroup, pulls 24 of 64 x 64; the tensor cores rule.
  const double waves = (blocks + gpu.multiprocessors() - 1) / gpu.multiprocessors(), tiles = (last - first + 127) / 128;
  outcome.least_clocks = START_CLOCKS + waves * tiles * 2 * (12 * 64 + 24 * 32);
  return outcome;
}

std::vector<Probe> pair_probes() {
  std::vector<Probe> probes;
  auto add = [&](unsigned rows, unsigned first, unsigned last) {
    probes.push_back({"pairs_64", std::to_string(rows) + "x" + std::to_string(last - first) + "x64", "f32x3", double(rows) * (last - first) * 64,
                      [=](Gpu& gpu) { return pairs(gpu, rows, first, last); }});
  };
  add(300, 0, 300), add(261, 128, 259);
  // Those of 8192 samples with each other, and as many rows as 132 multiprocessors have work for.
  add(8192, 0, 8192), add(132 * 128, 0, 8192);
  return probes;
}
