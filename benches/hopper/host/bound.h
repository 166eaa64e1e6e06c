// What a multiprocessor's clocks are needed for at least: the model that the first times on a GPU are to be held against.
#pragma once
#include <algorithm>

// A block of the sum, which is a stage of the ring.
struct Loop {
  double groups, instructions, n;  // warpgroups, and of each the wgmmas of 64 x n and 32 bytes of the sum, operands in shared memory
  double stage, fetched;           // bytes of the stage, and those of them that this block fetches itself
};
// An instruction takes n / 2 clocks of the tensor cores. Shared memory moves 128 bytes in a clock: an instruction's operands (64 and n rows
// of 32 bytes) and what arrives. The second-level cache gives 6154 bytes in a clock to all multiprocessors.
inline double loop_clocks(const Loop& loop, double multiprocessors) {
  const double all = loop.groups * loop.instructions;
  return std::max({all * loop.n / 2, (all * (64 + loop.n) * 32 + loop.stage) / 128, loop.fetched * multiprocessors / 6154});
}
// To start and fill the ring, and for a tile's results, while the tensor cores wait.
constexpr double START_CLOCKS = 3500, RESULTS_CLOCKS = 3000;
