// The products with few rows of split.cu: clusters whose blocks share the sum and read each other's shared memory.
#include "bound.h"
#include "probe.h"

// Twin of `SplitProduct` in split.cu.
struct SplitProduct {
  const void* bias;
  void* out;
  uint32_t m, n, k, blocks_each;
  float slope;
};

template <class Out>
static Outcome split(Gpu& gpu, const std::string& name, unsigned m, unsigned n, unsigned k) {
  const bool transposed = name[name.size() - 1] == 'n';  // w [k, n]
  const unsigned cluster = name.find("_4_") != std::string::npos ? 4 : 8, planes = sizeof(Out) == 4 ? 2 : 1, depth = 64 / planes;
  const unsigned tiles = (n + 63) / 64 * ((m + 127) / 128), blocks_each = ((k + depth - 1) / depth + cluster - 1) / cluster;
  const Launch launch = gpu.kernel("split", name, tiles * cluster, 128, 8 * 24576 + 128, cluster);
  Numbers numbers;
  const Operand w(transposed ? n : k, transposed ? k : n, 1, 2, planes, numbers), x(k, m, 1, 2, planes, numbers);
  const auto type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const auto wide = CU_TENSOR_MAP_SWIZZLE_128B, narrow = depth == 64 ? wide : CU_TENSOR_MAP_SWIZZLE_64B;
  const CUtensorMap map_w = transposed ? w.map(type, 64, depth, wide) : w.map(type, depth, 64, narrow), map_x = x.map(type, depth, 128, narrow);
  const Buffer out(size_t(m) * n * sizeof(Out));
  const SplitProduct p{nullptr, out.pointer<void>(), m, n, k, blocks_each, 0};
  auto run = [&] { launch({&map_w, &map_x, &p}); };
  run();
  const auto got = out.read<Out>();
  Comparison comparison;
  for_entries(got.size(), k, [&](uint64_t at) {
    const uint64_t j = at % n, i = at / n;
    double sum = 0;
    for (uint64_t l = 0; l < k; ++l) sum += double(x.values[i * k + l]) * w.values[transposed ? l * n + j : j * k + l];
    comparison.add(at, of_results(got[at]), std::max(sum, 0.0));
  });
  Outcome outcome;
  comparison.into(outcome, allowed(sizeof(Out) == 2 ? 3e-3 : 1e-5, k));
  outcome.timed(gpu, run);
  outcome.operations = 2.0 * m * n * k;
  // Each block fetches all of its stages; 800 clocks until the first is there, 700 to add the parts up.
  outcome.least_clocks = blocks_each * loop_clocks({1, planes == 2 ? 6.0 : 4.0, 128, 24576, 24576}, gpu.multiprocessors()) + 1500;
  return outcome;
}

std::vector<Probe> split_probes() {
  struct Row {
    const char* name;
    unsigned m, n, k;
  };
  std::vector<Probe> probes;
  for (Row r : {Row{"bf16_8_nt", 100, 200, 1024}, {"bf16_8_nn", 100, 200, 784}, {"f32x3_8_nn", 100, 200, 784}, {"f32x3_8_nt", 130, 72, 24},
                {"f32x3_4_nt", 37, 65, 2512}, {"bf16_8_nt", 100, 1024, 1024}, {"bf16_8_nn", 100, 1024, 1024}, {"f32x3_8_nt", 100, 1024, 1024},
                {"f32x3_8_nn", 100, 1024, 1024}, {"f32x3_4_nt", 100, 1024, 1024}}) {
    const std::string name = std::string("split_") + r.name;
    const bool bf16 = r.name[0] == 'b';
    const std::string shape = std::to_string(r.m) + "x" + std::to_string(r.n) + "x" + std::to_string(r.k);
    probes.push_back({name, shape, bf16 ? "bf16" : "f32x3", double(r.m) * r.n * r.k,
                      [=](Gpu& gpu) { return bf16 ? split<uint16_t>(gpu, name, r.m, r.n, r.k) : split<float>(gpu, name, r.m, r.n, r.k); }});
  }
  return probes;
}
