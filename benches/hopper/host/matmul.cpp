// The products of matmul.cu: all kernels at a shape whose tiles hang over, some at 4096^3, and with a short sum, whose time is that of
// results.
#include "bound.h"
#include "probe.h"

// Twin of `Product` in matmul.cu.
struct Product {
  const void* bias;
  void* out;
  uint32_t m, n, k, batches, tiles_m, tiles_n;
  float slope;
};
struct Shape {
  unsigned m, n, k, batches;
};

// What the results have as type: Out.
template <class Out>
static Outcome matmul(Gpu& gpu, const std::string& name, Shape s) {
  const bool pair = name.find("_pair") != std::string::npos, tf32 = name.find("tf32") != std::string::npos;
  const bool three = name.find("f32x3") != std::string::npos;
  const bool ta = name[name.size() - 2] == 't', tb = name[name.size() - 1] == 't';  // a [k, m]; b [n, k]
  const unsigned cluster = pair ? 2 : 1, tiles_m = ((s.m + 127) / 128 + cluster - 1) / cluster * cluster, tiles_n = (s.n + 255) / 256;
  const unsigned tiles = tiles_m / cluster * tiles_n * s.batches, most = gpu.multiprocessors() / cluster, clusters = std::min(tiles, most);
  const Launch launch = gpu.kernel("matmul", name, clusters * cluster, 384, 4 * 49152 + 64, cluster);

  const int size = tf32 ? 4 : 2, planes = three ? 2 : 1;
  const unsigned depth = 128 / size / planes, chunk = 128 / size;  // of the sum in a stage; lines of a box where they are contiguous
  Numbers numbers;
  const Operand a(ta ? s.m : s.k, ta ? s.k : s.m, s.batches, size, planes, numbers);
  const Operand b(tb ? s.k : s.n, tb ? s.n : s.k, s.batches, size, planes, numbers);
  const auto type = tf32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const auto wide = CU_TENSOR_MAP_SWIZZLE_128B, narrow = depth * size == 128 ? wide : CU_TENSOR_MAP_SWIZZLE_64B;
  const CUtensorMap map_a = ta ? a.map(type, chunk, depth, wide) : a.map(type, depth, 128, narrow);
  const CUtensorMap map_b = tb ? b.map(type, depth, 256 / cluster, narrow) : b.map(type, chunk, depth, wide);
  std::vector<Out> bias(s.n);
  for (Out& v : bias) {
    const float x = numbers.next();
    if constexpr (sizeof(Out) == 2) v = to_bf16(x);
    else v = x;
  }
  const Buffer device_bias(bias), out(size_t(s.batches) * s.m * s.n * sizeof(Out));
  const Product p{device_bias.pointer<void>(), out.pointer<void>(), s.m, s.n, s.k, s.batches, tiles_m, tiles_n, 0.25f};
  auto run = [&] { launch({&map_a, &map_b, &p}); };
  run();

  const auto got = out.read<Out>();
  Comparison comparison;
  for_entries(got.size(), s.k, [&](uint64_t at) {
    const uint64_t j = at % s.n, i = at / s.n % s.m, c = at / s.n / s.m;
    const float *left = &a.values[c * s.m * s.k], *right = &b.values[c * s.n * s.k];
    double sum = of_results(bias[j]);
    for (uint64_t l = 0; l < s.k; ++l) sum += double(left[ta ? l * s.m + i : i * s.k + l]) * right[tb ? j * s.k + l : l * s.n + j];
    comparison.add(at, of_results(got[at]), sum < 0 ? sum * p.slope : sum);
  });
  Outcome outcome;
  comparison.into(outcome, allowed(sizeof(Out) == 2 ? 3e-3 : tf32 ? 5e-4 : 1e-5, s.k));
  outcome.timed(gpu, run);
  outcome.operations = 2.0 * s.batches * s.m * s.n * s.k;
  const Loop loop{2, three ? 6.0 : 4.0, 256, 49152, pair ? 32768.0 : 49152};
  const double waves = (tiles + most - 1) / most, blocks = (s.k + depth - 1) / depth;
  outcome.least_clocks = START_CLOCKS + waves * (blocks * loop_clocks(loop, gpu.multiprocessors()) + RESULTS_CLOCKS);
  return outcome;
}

static Probe probe(const std::string& kind, Shape s) {
  std::string shape = std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
  if (s.batches > 1) shape = std::to_string(s.batches) + "x" + shape;
  const std::string name = "matmul_" + kind;
  const bool bf16 = kind.substr(0, 4) == "bf16";
  return {name, shape, kind.substr(0, kind.find('_')), double(s.batches) * s.m * s.n * s.k,
          [=](Gpu& gpu) { return bf16 ? matmul<uint16_t>(gpu, name, s) : matmul<float>(gpu, name, s); }};
}

std::vector<Probe> matmul_probes() {
  std::vector<Probe> probes;
  // Of transposed operands the lengths along the lines are multiples of 8, as tensor maps want it.
  for (const char* kind : {"bf16_", "bf16_pair_", "f32x3_", "f32x3_pair_"})
    for (const char* letters : {"nt", "nn", "tn", "tt"})
      probes.push_back(probe(std::string(kind) + letters, letters == std::string("nt") ? Shape{261, 517, 328, 2} : Shape{264, 520, 328, 2}));
  for (const char* kind : {"tf32_nt", "tf32_pair_nt"}) probes.push_back(probe(kind, {261, 517, 328, 1}));
  for (const char* kind : {"bf16_nt", "bf16_pair_nt", "bf16_pair_nn", "bf16_pair_tn", "f32x3_nt", "f32x3_pair_nt", "f32x3_pair_nn", "tf32_nt",
                           "tf32_pair_nt"})
    probes.push_back(probe(kind, {4096, 4096, 4096, 1}));
  for (const char* kind : {"bf16_pair_nt", "f32x3_pair_nt"}) probes.push_back(probe(kind, {4096, 4096, 64, 1}));
  return probes;
}
