// The eight layouts that a descriptor can name.
#include "probe.h"

static Outcome layout(Gpu& gpu, const std::string& name, unsigned width) {
  const unsigned bytes = 2 * 48 * 8 * width;  // two operands
  const Launch launch = gpu.kernel("layouts", name, 1, 128, bytes);
  Numbers numbers;
  const Operand a(16, 64, 1, 2, 1, numbers), b(16, 64, 1, 2, 1, numbers);
  const Buffer out(64 * 64 * 4);
  const void *from_a = a.data.pointer<void>(), *from_b = b.data.pointer<void>(), *to = out.pointer<void>();
  auto run = [&] { launch({&from_a, &from_b, &to}); };
  run();
  const auto got = out.read<float>();
  Comparison comparison;
  for (unsigned i = 0; i < 64; ++i)
    for (unsigned j = 0; j < 64; ++j) {
      double sum = 0;
      for (unsigned k = 0; k < 16; ++k) sum += double(a.values[i * 16 + k]) * b.values[j * 16 + k];
      comparison.add(i * 64 + j, got[i * 64 + j], sum);
    }
  Outcome outcome;
  comparison.into(outcome, 1e-5);
  outcome.timed(gpu, run);
  return outcome;
}

std::vector<Probe> layout_probes() {
  std::vector<Probe> probes;
  for (const char* major : {"k", "mn"})
    for (unsigned width : {16, 32, 64, 128}) {
      const std::string name = std::string("layout_") + major + (width == 16 ? "_none" : "_" + std::to_string(width));
      probes.push_back({name, "64x64x16", "bf16", 64 * 64 * 16, [=](Gpu& gpu) { return layout(gpu, name, width); }});
    }
  return probes;
}
