// What went wrong, and where in the source.
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdarg>

#include "runtime.h"

namespace emu {
Options options;
static std::mutex mutex;
static std::string text;
static int code;
constexpr size_t ENOUGH = 4000;

std::string format(const char* pattern, ...) {
  char buffer[1024];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(buffer, sizeof buffer, pattern, arguments);
  va_end(arguments);
  return buffer;
}
std::string line_of(const void* site) {
  static std::map<const void*, std::string> known;
  static std::mutex known_mutex;
  std::lock_guard<std::mutex> lock(known_mutex);
  auto it = known.find(site);
  if (it != known.end()) return it->second;
  Dl_info module;
  const char* address = static_cast<const char*>(site) - 1;  // a return address is after the call
  if (!site || !dladdr(address, &module)) return "?";
  std::string line = module.dli_sname ? module.dli_sname : "?";
  std::string command = format("addr2line -Csie '%s' 0x%zx 2>/dev/null", module.dli_fname, size_t(address - static_cast<const char*>(module.dli_fbase)));
  if (FILE* pipe = popen(command.c_str(), "r")) {
    // The innermost of the inlined functions that is the kernels' own, not the shim's.
    char buffer[600] = "";
    while (fgets(buffer, sizeof buffer, pipe) && buffer[0] != '?') {
      line = buffer;
      line.resize(line.find_first_of(" \n"));  // without "(discriminator 2)"
      if (line.rfind("shim", 0) != 0) break;
    }
    pclose(pipe);
  }
  return known[site] = line;
}
std::string who(const ThreadView* v) {
  return format("block (%u,%u,%u) thread (%u,%u,%u)", v->bid.x, v->bid.y, v->bid.z, v->tid.x, v->tid.y, v->tid.z);
}
bool reports_left() {
  std::lock_guard<std::mutex> lock(mutex);
  return text.size() < ENOUGH;
}
void report(Code c, const std::string& message) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!code) code = c;
  if (text.size() < ENOUGH) text += (text.empty() ? "" : "\n") + message;
}
void fail(Code c, const std::string& message) {
  report(c, message);
  worker->failed = true;
  to_scheduler();
  __builtin_unreachable();
}
void clear_reports() {
  std::lock_guard<std::mutex> lock(mutex);
  text.clear();
  code = 0;
}
Code first_report(std::string* out) {
  std::lock_guard<std::mutex> lock(mutex);
  *out = text;
  return Code(code);
}
void device_assert(const char* expression, const char* file, int line) {
  const char* slash = strrchr(file, '/');
  fail(ASSERT, format("%s:%d: assertion `%s' failed in %s", slash ? slash + 1 : file, line, expression, who(self).c_str()));
}
void device_trap(const void* site) { fail(LAUNCH_FAILED, format("%s: trap at %s", who(self).c_str(), line_of(site).c_str())); }
}  // namespace emu
using namespace emu;
void emu_set(const char* name, long value) {
  std::string s = name;
  if (s == "sched") options.sched = value;
  if (s == "seed") options.seed = value;
  if (s == "workers") options.workers = value;
  if (s == "lint") options.lint = value;
}
