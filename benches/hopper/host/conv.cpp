// The convolutions of conv.cu: a tiled box of the image for each tap, with element strides and zeros at the edges.
#include "bound.h"
#include "probe.h"

// Twin of `Conv` in conv.cu.
struct Conv {
  const float* bias;
  float* out;
  uint32_t height, width, batch, channels, across, down, deep, depth, taps, kernel_width;
  int stride, padding, dilation;
  float slope;
};
// Square images and kernels.
struct Layer {
  unsigned groups, tile;  // the kernel: warpgroups along the channels, pixels of a tile
  unsigned batch, in, size, out, kernel;
  int stride, padding, dilation;
  unsigned results() const { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
};

// Planes of bf16 that add up to numbers.
struct Planes {
  std::vector<uint16_t> bits;
  explicit Planes(size_t count) : bits(2 * count) {}
  void put(size_t at, float v) { bits[at] = to_bf16(v), bits[bits.size() / 2 + at] = to_bf16(v - of_bf16(bits[at])); }
};

static Outcome conv(Gpu& gpu, const Layer& layer) {
  const unsigned batch = layer.batch, in = layer.in, size = layer.size, out = layer.out, kernel = layer.kernel, edge = layer.results();
  const unsigned depth = (in + 31) / 32 * 32, taps = kernel * kernel, area = size * size;
  Numbers numbers;
  std::vector<float> x(size_t(batch) * in * area), w(size_t(out) * in * taps), bias(out);
  for (auto* values : {&x, &w, &bias})
    for (float& v : *values) v = numbers.next();
  // As the kernel takes them: channels last.
  Planes image(size_t(batch) * area * depth), weight(size_t(out) * taps * depth);
  for (size_t n = 0; n < batch; ++n)
    for (size_t c = 0; c < in; ++c)
      for (size_t i = 0; i < area; ++i) image.put((n * area + i) * depth + c, x[(n * in + c) * area + i]);
  for (size_t o = 0; o < out; ++o)
    for (size_t c = 0; c < in; ++c)
      for (size_t t = 0; t < taps; ++t) weight.put((o * taps + t) * depth + c, w[(o * in + c) * taps + t]);
  const Buffer device_bias(bias), device_image(image.bits), device_weight(weight.bits), device_out(size_t(batch) * out * edge * edge * 4);

  Conv p{device_bias.pointer<float>(), device_out.pointer<float>(), edge, edge, batch, out, 1, 1, 1, depth, taps, kernel,
         layer.stride, layer.padding, layer.dilation, 0.25f};
  while (p.across < edge && p.across < 16) p.across *= 2;
  while (p.down < edge && p.across * p.down < layer.tile) p.down *= 2;
  p.deep = layer.tile / p.across / p.down;
  const auto type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const auto swizzle = CU_TENSOR_MAP_SWIZZLE_64B;
  const uint32_t step = uint32_t(layer.stride);
  const uint64_t pixel = depth * 2, row = pixel * size, sample = row * size, line = uint64_t(taps) * depth;
  const CUtensorMap map_image = tensor_map(type, device_image,
                                           {{depth, 2, 32}, {size, pixel, p.across * step, step}, {size, row, p.down * step, step},
                                            {batch, sample, p.deep}, {2, sample * batch, 1}}, swizzle);
  const CUtensorMap map_weight =
      tensor_map(type, device_weight, {{line, 2, 32}, {out, line * 2, 64 * layer.groups}, {2, line * 2 * out, 1}}, swizzle);
  auto pieces = [](unsigned length, unsigned piece) { return (length + piece - 1) / piece; };
  const unsigned pixel_tiles = pieces(edge, p.across) * pieces(edge, p.down) * pieces(batch, p.deep);
  const unsigned blocks = pieces(out, 64 * layer.groups) * pieces(pixel_tiles, 2 / layer.groups);
  const unsigned stage = 2 * 64 * (64 * layer.groups + layer.tile * (2 / layer.groups));
  const std::string name = "conv_f32x3_" + std::to_string(layer.groups) + "_" + std::to_string(layer.tile);
  const Launch launch = gpu.kernel("conv", name, blocks, 384, std::min(6u, 216 * 1024 / stage) * (stage + 16));
  auto run = [&] { launch({&map_image, &map_weight, &p}); };
  run();

  const auto got = device_out.read<float>();
  Comparison comparison;
  for_entries(got.size(), double(in) * taps, [&](uint64_t at) {
    const uint64_t j = at % edge, i = at / edge % edge, o = at / edge / edge % out, n = at / edge / edge / out;
    double sum = bias[o];
    for (unsigned c = 0; c < in; ++c)
      for (unsigned t = 0; t < taps; ++t) {
        const int y = int(i) * layer.stride - layer.padding + int(t / kernel) * layer.dilation;
        const int column = int(j) * layer.stride - layer.padding + int(t % kernel) * layer.dilation;
        if (y < 0 || column < 0 || y >= int(size) || column >= int(size)) continue;
        sum += double(x[((n * in + c) * size + y) * size + column]) * w[(o * in + c) * taps + t];
      }
    comparison.add(at, got[at], sum < 0 ? sum * p.slope : sum);
  });
  Outcome outcome;
  comparison.into(outcome, allowed(2e-5, double(in) * taps));
  outcome.timed(gpu, run);
  outcome.operations = 2.0 * double(got.size()) * in * taps;
  const double waves = (blocks + gpu.multiprocessors() - 1) / gpu.multiprocessors();
  const Loop loop{2, 6, double(layer.tile), double(stage), double(stage)};
  outcome.least_clocks = waves * (START_CLOCKS + taps * (depth / 32) * loop_clocks(loop, gpu.multiprocessors()) + RESULTS_CLOCKS);
  return outcome;
}

std::vector<Probe> conv_probes() {
  std::vector<Probe> probes;
  for (Layer layer : {Layer{2, 128, 3, 48, 16, 96, 3, 1, 1, 1}, {1, 256, 5, 32, 9, 40, 3, 2, 1, 1}, {1, 128, 2, 64, 16, 64, 4, 2, 1, 1},
                      {2, 256, 3, 40, 12, 130, 5, 1, 4, 2},
                      // The same work with and without an element stride.
                      {2, 128, 64, 64, 32, 128, 4, 2, 1, 1}, {2, 128, 64, 64, 19, 128, 4, 1, 0, 1}}) {
    const unsigned edge = layer.results();
    const std::string name = "conv_" + std::to_string(layer.groups) + "_" + std::to_string(layer.tile) + "_" + std::to_string(layer.kernel) + "x" +
                             std::to_string(layer.kernel) + "_stride_" + std::to_string(layer.stride);
    const std::string shape = std::to_string(layer.batch) + "x" + std::to_string(layer.in) + "x" + std::to_string(layer.size) + "x" +
                              std::to_string(layer.size) + "x" + std::to_string(layer.out);
    probes.push_back({name, shape, "f32x3", double(layer.batch) * layer.out * edge * edge * layer.in * layer.kernel * layer.kernel,
                      [=](Gpu& gpu) { return conv(gpu, layer); }});
  }
  return probes;
}
