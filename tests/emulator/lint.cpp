// The performance lint (race, with STRAIT_EMU_LINT=1): the lanes of a warp make one source access together the k-th time each of them
// reaches it; what that request costs is counted, in 32-byte sectors of global memory or passes over the banks of shared memory.
// It sees accesses of the source: nvcc may merge neighbouring ones. At the end of the process the report goes to the file that
// STRAIT_EMU_LINT_REPORT names.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "runtime.h"

namespace emu {
struct Cost { uint64_t requests = 0, units = 0, ideal = 0; };
static std::string table;
#ifdef EMU_RACE
struct Site { Cost cost; bool shared, write; };
struct Request { uint32_t mask = 0; uintptr_t at[32]; };
struct Stream { uint32_t visits[32] = {}, done = 0; unsigned bytes = 0; bool shared = false, write = false; std::vector<Request> open; };
static std::map<const void*, Site> sites;
static std::map<std::pair<unsigned, const void*>, Stream> streams;  // by warp and access

static void count(const void* where, const Stream& s, const Request& r) {
  Site& site = sites[where];
  site.shared = s.shared, site.write = s.write;
  Cost& cost = site.cost;
  cost.requests++;
  const unsigned lanes = unsigned(__builtin_popcount(r.mask));
  if (!s.shared) {
    std::set<uintptr_t> sectors;
    for (int l = 0; l < 32; ++l)
      if (r.mask >> l & 1)
        for (uintptr_t a = r.at[l] >> 5; a <= (r.at[l] + s.bytes - 1) >> 5; ++a) sectors.insert(a);
    cost.units += sectors.size();
    cost.ideal += std::min<uint64_t>((lanes * s.bytes + 31) / 32, sectors.size());
    return;
  }
  // 8- and 16-byte accesses go in halves and quarters of the warp.
  const unsigned passes = std::max(1u, s.bytes / 4), together = 32 / passes;
  for (unsigned p = 0; p < passes; ++p) {
    std::set<uintptr_t> bank[32];
    size_t worst = 0;
    for (unsigned l = p * together; l < (p + 1) * together; ++l)
      if (r.mask >> l & 1)
        for (uintptr_t word = r.at[l] >> 2; word <= (r.at[l] + s.bytes - 1) >> 2; ++word) {
          bank[word & 31].insert(word);
          worst = std::max(worst, bank[word & 31].size());
        }
    cost.units += worst;
    cost.ideal += worst > 0;
  }
}
static void write_report();
void lint_access(uintptr_t address, unsigned bytes, bool write, bool shared, const void* site) {
  static const int registered = atexit(write_report);
  (void)registered;
  const ThreadView* v = self;
  Stream& s = streams[{v->warp, site}];
  s.bytes = bytes, s.shared = shared, s.write = write;
  uint32_t k = s.visits[v->lane]++ - s.done;
  if (s.open.size() <= k) s.open.resize(k + 1);
  s.open[k].at[v->lane] = address;
  s.open[k].mask |= 1u << v->lane;
  size_t complete = 0;
  while (complete < s.open.size() && s.open[complete].mask == 0xffffffffu) count(site, s, s.open[complete++]);
  if (complete) s.open.erase(s.open.begin(), s.open.begin() + ptrdiff_t(complete)), s.done += uint32_t(complete);
}
void lint_block_end() {
  for (auto& s : streams)
    for (auto& r : s.second.open)
      if (r.mask) count(s.first.second, s.second, r);
  streams.clear();
}
#endif
}  // namespace emu
using namespace emu;
// Lines "file.cu:12 shared|global read|write REQUESTS UNITS IDEAL" since the last call.
EMU_EXPORT const char* emu_lint_report() {
  table.clear();
#ifdef EMU_RACE
  std::map<std::string, Cost> rows;  // several accesses of one line are one row
  for (auto& s : sites) {
    Cost& row = rows[line_of(s.first) + (s.second.shared ? " shared" : " global") + (s.second.write ? " write" : " read")];
    row.requests += s.second.cost.requests, row.units += s.second.cost.units, row.ideal += s.second.cost.ideal;
  }
  sites.clear();
  for (auto& r : rows) table += format("%s %llu %llu %llu\n", r.first.c_str(), (unsigned long long)r.second.requests, (unsigned long long)r.second.units, (unsigned long long)r.second.ideal);
#endif
  return table.c_str();
}
#ifdef EMU_RACE
static void emu::write_report() {
  const char* path = getenv("STRAIT_EMU_LINT_REPORT");
  FILE* file = path ? fopen(path, "a") : nullptr;
  if (!file) return;
  fputs(emu_lint_report(), file);
  fclose(file);
}
#endif
