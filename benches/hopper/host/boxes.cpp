// What copies of boxes bring: swizzles, element strides and zeros at the edges, the rounding to TF32; and what an operand of a product for
// TF32 counts as.
#include <chrono>

#include "probe.h"

// Twin of `Box` in boxes.cu.
struct Box {
  void* out;
  int at[5];
  uint32_t bytes;
};

// `differs` says how the bytes differ from those that are wanted.
using Differs = std::function<std::string(const std::vector<uint32_t>&)>;
static Outcome copied(Gpu& gpu, const CUtensorMap& map, const std::vector<int>& at, uint32_t bytes, const Differs& differs) {
  const Buffer out(bytes);
  const Launch launch = gpu.kernel("boxes", "box_copied", 1, 128, bytes + 8);
  Box box{out.pointer<void>(), {}, bytes};
  std::copy(at.begin(), at.end(), box.at);
  auto run = [&] { launch({&map, &box}); };
  run();
  Outcome outcome;
  outcome.differs = differs(out.read<uint32_t>());
  outcome.timed(gpu, run);
  return outcome;
}
static std::vector<Axis> five(std::vector<Axis> axes) {
  while (axes.size() < 5) axes.push_back({1, axes.back().stride * axes.back().length, 1});
  return axes;
}
static std::string hexadecimal(uint32_t got, uint32_t want) {
  char text[64];
  snprintf(text, sizeof text, "0x%08x for 0x%08x", got, want);
  return text;
}

// Numbers that tell ways of rounding apart: around the middle between two of TF32, which have 13 bits less.
static std::vector<uint32_t> to_round() {
  std::vector<uint32_t> all;
  for (uint32_t high : {0x3f800000u, 0x3f802000u, 0x3fffe000u, 0x40490000u, 0x7f7fc000u, 0x00804000u, 0x12346000u, 0x65432000u})
    for (uint32_t low : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x1800u, 0x1fffu, 0x0800u})
      for (uint32_t sign : {0u, 0x80000000u}) all.push_back(sign | high | low);
  Numbers numbers;
  while (all.size() < 512) all.push_back(bits(numbers.next()));
  return all;
}
struct Rounding {
  const char* name;
  uint32_t (*of)(uint32_t);
};
static const Rounding ROUNDINGS[] = {
    {"to the nearest, ties to even", [](uint32_t u) { return (u + 0xfff + (u >> 13 & 1)) & ~0x1fffu; }},
    {"to the nearest, ties away from zero", [](uint32_t u) { return (u + 0x1000) & ~0x1fffu; }},
    {"cut off", [](uint32_t u) { return u & ~0x1fffu; }},
    {"not rounded", [](uint32_t u) { return u; }},
};
enum { TO_EVEN, AWAY, CUT, NOT_ROUNDED };  // numbers in ROUNDINGS
// How they differ from numbers rounded in the expected way, and which other way they were.
static std::string rounded(const std::vector<uint32_t>& from, const std::vector<uint32_t>& got, int expected) {
  for (size_t i = 0; i < from.size(); ++i) {
    const uint32_t want = ROUNDINGS[expected].of(from[i]);
    if (got[i] == want) continue;
    for (const Rounding& other : ROUNDINGS)
      if (std::equal(from.begin(), from.end(), got.begin(), [&](uint32_t f, uint32_t g) { return other.of(f) == g; }))
        return std::string("they are ") + other.name + ", not " + ROUNDINGS[expected].name;
    return "number " + std::to_string(i) + " is " + hexadecimal(got[i], want) + ", of " + hexadecimal(from[i], from[i]).substr(0, 10);
  }
  return "";
}

static Outcome rounding(Gpu& gpu, CUtensorMapDataType type, int expected) {
  const auto from = to_round();
  const Buffer data(from);
  const CUtensorMap map = tensor_map(type, data, five({{8, 4, 8}, {64, 32, 64}}), CU_TENSOR_MAP_SWIZZLE_NONE);
  return copied(gpu, map, {0, 0, 0, 0, 0}, 64 * 32, [&](const auto& got) { return rounded(from, got, expected); });
}

// By the identity: column k of the results is column k of the left operand, as the tensor cores take it.
static Outcome operand(Gpu& gpu) {
  const auto from = to_round();
  std::vector<float> identity(64 * 8);
  for (int i = 0; i < 8; ++i) identity[i * 8 + i] = 1;
  const Buffer data(from), other(identity), out(64 * 64 * 4);
  const auto axes = five({{8, 4, 8}, {64, 32, 64}});
  const CUtensorMap a = tensor_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, data, axes, CU_TENSOR_MAP_SWIZZLE_32B);
  const CUtensorMap b = tensor_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, other, axes, CU_TENSOR_MAP_SWIZZLE_32B);
  const void* to = out.pointer<void>();
  const Launch launch = gpu.kernel("boxes", "tf32_product", 1, 128, 2 * 64 * 32 + 8);
  auto run = [&] { launch({&a, &b, &to}); };
  run();
  const auto results = out.read<uint32_t>();
  std::vector<uint32_t> got;
  for (int i = 0; i < 64; ++i) got.insert(got.end(), &results[i * 64], &results[i * 64 + 8]);
  Outcome outcome;
  outcome.differs = rounded(from, got, CUT);
  outcome.timed(gpu, run);
  return outcome;
}

// 64 rows of `width` bytes: pieces of 16 bytes change places by the number of their 128 bytes.
static Outcome swizzle(Gpu& gpu, unsigned width) {
  std::vector<uint32_t> from(64 * width / 4);
  for (size_t i = 0; i < from.size(); ++i) from[i] = uint32_t(i + 1);
  const Buffer data(from);
  const auto kind = width == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : width == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_32B;
  const CUtensorMap map = tensor_map(CU_TENSOR_MAP_DATA_TYPE_UINT32, data, five({{width / 4, 4, width / 4}, {64, width, 64}}), kind);
  return copied(gpu, map, {0, 0, 0, 0, 0}, 64 * width, [&](const auto& got) {
    for (uint32_t i = 0; i < from.size(); ++i) {
      const uint32_t at = (i * 4 ^ (i * 4 / 128 % (width / 16) * 16)) / 4;
      if (got[at] != from[i]) return "word " + std::to_string(at) + " is " + hexadecimal(got[at], from[i]);
    }
    return std::string();
  });
}

// Of images [2 planes][3][9][10][8]: every step-th pixel, `across` x `down` of two images, from (x, y) on.
static Outcome strided(Gpu& gpu, unsigned step, int x, int y) {
  constexpr unsigned CHANNELS = 8, WIDTH = 10, HEIGHT = 9, IMAGES = 3, ACROSS = 4, DOWN = 3, DEEP = 2;
  constexpr int FIRST = 2, PLANE = 1;  // the second image of the two is not there
  std::vector<uint32_t> from(CHANNELS * WIDTH * HEIGHT * IMAGES * 2);
  for (size_t i = 0; i < from.size(); ++i) from[i] = uint32_t(i + 1);
  const Buffer data(from);
  constexpr uint64_t PIXEL = CHANNELS * 4, ROW = PIXEL * WIDTH, IMAGE = ROW * HEIGHT;
  const std::vector<Axis> axes = {
      {CHANNELS, 4, CHANNELS}, {WIDTH, PIXEL, ACROSS * step, step}, {HEIGHT, ROW, DOWN * step, step},
      {IMAGES, IMAGE, DEEP}, {2, IMAGE * IMAGES, 1}};
  const CUtensorMap map = tensor_map(CU_TENSOR_MAP_DATA_TYPE_UINT32, data, axes, CU_TENSOR_MAP_SWIZZLE_NONE);
  return copied(gpu, map, {0, x, y, FIRST, PLANE}, ACROSS * DOWN * DEEP * PIXEL, [&](const auto& got) {
    for (unsigned i = 0; i < got.size(); ++i) {
      const int channel = i % CHANNELS, column = x + int(i / CHANNELS % ACROSS * step), row = y + int(i / CHANNELS / ACROSS % DOWN * step);
      const int image = FIRST + int(i / CHANNELS / ACROSS / DOWN);
      const bool inside = column >= 0 && column < int(WIDTH) && row >= 0 && row < int(HEIGHT) && image < int(IMAGES);
      const size_t at = (((PLANE * IMAGES + image) * HEIGHT + row) * WIDTH + column) * CHANNELS + channel;
      const uint32_t want = inside ? from[at] : 0;
      if (got[i] != want) return "word " + std::to_string(i) + " is " + hexadecimal(got[i], want);
    }
    return std::string();
  });
}

// What the host pays for a map; the kernel is not part of it.
static Outcome encoding(Gpu&) {
  const Buffer data(1 << 20);
  constexpr int COUNT = 2000;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < COUNT; ++i)
    tensor_map(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, data, {{64, 2, 64}, {128, 128, 128}, {2, 128 * 128, 1}}, CU_TENSOR_MAP_SWIZZLE_128B);
  Outcome outcome;
  outcome.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() / COUNT;
  return outcome;
}

std::vector<Probe> box_probes() {
  std::vector<Probe> probes;
  for (unsigned width : {32, 64, 128})
    probes.push_back({"box_swizzle_" + std::to_string(width), "64x" + std::to_string(width / 4), "u32", 16.0 * width,
                      [=](Gpu& gpu) { return swizzle(gpu, width); }});
  for (unsigned step : {1, 2, 3})
    for (int at : {-1, 5})
      probes.push_back({"box_stride_" + std::to_string(step) + (at < 0 ? "_first" : "_last"), "2x3x9x10x8", "u32", 4320,
                        [=](Gpu& gpu) { return strided(gpu, step, at, at); }});
  auto round = [&](const char* name, const char* dtype, CUtensorMapDataType type, int expected) {
    probes.push_back({name, "64x8", dtype, 512, [=](Gpu& gpu) { return rounding(gpu, type, expected); }});
  };
  round("box_tf32_rounds", "tf32", CU_TENSOR_MAP_DATA_TYPE_TFLOAT32, TO_EVEN);
  round("box_f32_keeps", "f32", CU_TENSOR_MAP_DATA_TYPE_FLOAT32, NOT_ROUNDED);
  probes.push_back({"operand_tf32_cuts", "64x64x8", "tf32", 64 * 64 * 8, operand});
  probes.push_back({"map_encoding", "1", "host", 1, encoding});
  return probes;
}
