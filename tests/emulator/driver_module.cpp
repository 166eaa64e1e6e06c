// Modules and launches. Kernels run from their host compilation; what only the PTX knows is checked here: that an .entry exists,
// that its parameters have the same sizes, its .maxntid, its static shared memory.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "driver.h"

namespace driver {
struct Function {
  std::string name;
  const emu::KernelInfo* kernel = nullptr;
  std::vector<unsigned> parameters;  // sizes, according to the PTX
  unsigned threads = 0, static_shared = 0, dynamic_shared = 48 << 10;
};
struct Module { std::map<std::string, Function> functions; };
constexpr unsigned MAX_SHARED = 232448;

static unsigned parameter_size(const std::string& declaration) {
  size_t type = declaration.find(".b8 "), bracket = declaration.find('[');
  if (bracket != std::string::npos && type != std::string::npos) return unsigned(atoi(declaration.c_str() + bracket + 1));
  for (const char* p = declaration.c_str(); (p = strchr(p, '.')); ++p)  // .u64, .f32, .b16 ...
    if (strchr("usfb", p[1]) && atoi(p + 2)) return unsigned(atoi(p + 2)) / 8;
  return 0;
}
static unsigned product(const char* p) {  // of "256, 1, 1"
  unsigned n = 1;
  for (;; ++p) {
    char* end;
    n *= unsigned(strtol(p, &end, 10));
    if (*(p = end) != ',') return n;
  }
}
static Function parse(const std::string& ptx, size_t entry) {
  Function f;
  size_t name = entry + 7, open = ptx.find('(', name), close = ptx.find(')', open), body = ptx.find('{', close), end = ptx.find("\n}", body);
  f.name = ptx.substr(name, open - name);
  for (size_t p = ptx.find(".param", open); p < close; p = ptx.find(".param", p + 1))
    f.parameters.push_back(parameter_size(ptx.substr(p + 6, ptx.find_first_of(",)", p) - p - 6)));
  size_t limit = ptx.find(".maxntid", close);
  if (limit < body) f.threads = product(ptx.c_str() + limit + 8);
  for (size_t p = ptx.find(".shared .align", body); p < end; p = ptx.find(".shared .align", p + 1)) {
    size_t bracket = ptx.find('[', p), semicolon = ptx.find(';', p);
    if (bracket < semicolon) f.static_shared += unsigned(atoi(ptx.c_str() + bracket + 1));
  }
  f.kernel = emu_kernel_find(f.name.c_str());
  return f;
}
// The newest PTX that a driver of this version takes, times ten.
static int newest_ptx(int version) {
  int major = version / 1000, minor = version % 1000 / 10;
  if (major > 12) return 90 + (major - 13) * 10 + minor;
  if (major == 12) return minor <= 5 ? 80 + minor : 79 + minor;
  return 70 + minor;
}
static double directive(const char* ptx, const char* name) {
  const char* p = strstr(ptx, name);
  return p ? atof(p + strlen(name)) : 0;
}
static void trace(const std::string& name) {
  static std::mutex mutex;
  static std::set<std::string> seen;
  static const char* path = getenv("STRAIT_EMU_TRACE");
  if (!path) return;
  std::lock_guard<std::mutex> lock(mutex);
  if (!seen.insert(name).second) return;
  if (FILE* file = fopen(path, "a")) {  // one short write: whole lines, also from several processes
    std::string line = name + "\n";
    fwrite(line.data(), 1, line.size(), file);
    fclose(file);
  }
}
static int run(const Function& f, const unsigned* grid, const unsigned* block, unsigned shared, void** arguments) {
  if (int code = remembered_fault()) return code;
  trace(f.name);
  int code = emu_launch_info(f.kernel, grid, block, shared, arguments);
  if (!code) return SUCCESS;
  if (code == INVALID_VALUE) return failed(INVALID_VALUE, emu_last_error());
  return fault(code, emu_last_error());
}
// A launch that happens later: its arguments copied.
struct Later {
  Function f;
  unsigned grid[3], block[3], shared;
  std::vector<std::vector<char>> values;
  int operator()() {
    std::vector<void*> arguments;
    for (auto& v : values) arguments.push_back(v.data());
    return run(f, grid, block, shared, arguments.data());
  }
};
static int launch(Function* f, const unsigned* grid, const unsigned* block, unsigned shared, Stream* stream, void** arguments) {
  if (int code = usable()) return code;
  uint64_t threads = uint64_t(block[0]) * block[1] * block[2];
  if (!threads || threads > 1024 || block[2] > 64 || !grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535)
    return failed(INVALID_VALUE, f->name + ": a grid or block outside the limits");
  if (f->threads && threads > f->threads) return failed(INVALID_VALUE, f->name + ": more threads than its __launch_bounds__");
  if (shared + f->static_shared > std::max(f->dynamic_shared + f->static_shared, 48u << 10) || (f->dynamic_shared <= 48 << 10 && shared + f->static_shared > 48 << 10))
    return failed(INVALID_VALUE, f->name + ": more shared memory than allowed (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES raises it)");
  if (!settings().lazy && !capturing(stream))
    return submit(stream, {KERNEL, [=] { return run(*f, grid, block, shared, arguments); }});
  Later later{*f, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, {}};
  for (size_t i = 0; i < f->parameters.size(); ++i) {
    auto* p = static_cast<const char*>(arguments[i]);
    later.values.emplace_back(p, p + f->parameters[i]);
  }
  return submit(stream, {KERNEL, later});
}
}  // namespace driver
using namespace driver;

CU cuModuleLoadData(Module** out, const void* image) {
  if (int code = usable()) return code;
  if (int code = unsafe_in_capture("cuModuleLoadData")) return code;
  const char* ptx = static_cast<const char*>(image);
  if (!strstr(ptx, ".version")) return failed(INVALID_IMAGE, "the emulator loads PTX only");
  if (int(directive(ptx, ".version ") * 10 + 0.5) > newest_ptx(settings().version))
    return failed(UNSUPPORTED_PTX_VERSION, "the PTX is newer than the driver");
  if (directive(ptx, ".target sm_") > settings().capability) return failed(NO_BINARY_FOR_GPU, "the PTX is for a newer device");
  auto module = std::make_unique<Module>();
  std::string text = ptx;
  for (size_t p = text.find(".entry "); p != std::string::npos; p = text.find(".entry ", p + 1)) {
    Function f = parse(text, p);
    module->functions[f.name] = f;
  }
  *out = module.release();
  return SUCCESS;
}
CU cuModuleLoadDataEx(Module** out, const void* image, unsigned, int*, void**) { return cuModuleLoadData(out, image); }
CU cuModuleUnload(Module* module) { return delete module, SUCCESS; }
CU cuModuleGetFunction(Function** out, Module* module, const char* name) {
  if (int code = usable()) return code;
  auto it = module->functions.find(name);
  if (it == module->functions.end()) return failed(NOT_FOUND, std::string("no .entry ") + name + " in this module's PTX");
  Function& f = it->second;
  if (!f.kernel) return failed(NOT_FOUND, f.name + " was not declared with KERNEL");
  const unsigned* sizes;
  size_t count = emu_kernel_parameters(f.kernel, &sizes);
  if (f.parameters != std::vector<unsigned>(sizes, sizes + count))
    return failed(INVALID_IMAGE, f.name + ": its parameters differ between the PTX and the host compilation");
  *out = &f;
  return SUCCESS;
}
CU cuFuncSetAttribute(Function* f, int attribute, int value) {
  if (int code = usable()) return code;
  if (attribute != 8) return SUCCESS;
  if (value < 0 || unsigned(value) + f->static_shared > MAX_SHARED) return failed(INVALID_VALUE, f->name + ": more shared memory than a block can have");
  f->dynamic_shared = unsigned(value);
  return SUCCESS;
}
CU cuFuncGetAttribute(int* value, int attribute, Function* f) {
  *value = attribute == 0   ? int(f->threads ? f->threads : 1024)
           : attribute == 1 ? int(f->static_shared)
           : attribute == 5 ? 80
           : attribute == 6 ? settings().capability
           : attribute == 8 ? int(f->dynamic_shared)
                            : 0;
  return SUCCESS;
}
CU cuFuncSetCacheConfig(Function*, int) { return SUCCESS; }
CU cuFuncGetName(const char** name, Function* f) { return *name = f->name.c_str(), SUCCESS; }
CU cuFuncGetParamInfo(Function* f, size_t index, size_t* offset, size_t* size) {
  if (index >= f->parameters.size()) return INVALID_VALUE;
  size_t at = 0;
  for (size_t i = 0; i <= index; ++i) {
    size_t align = f->parameters[i] < 8 ? f->parameters[i] : 8;
    at = (at + align - 1) / align * align;
    if (i < index) at += f->parameters[i];
  }
  *offset = at;
  if (size) *size = f->parameters[index];
  return SUCCESS;
}
CU cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* f, int threads, size_t dynamic) {
  if (threads < 1 || threads > 1024) return INVALID_VALUE;
  size_t shared = f->static_shared + dynamic + 1024;
  *blocks = int(std::min<size_t>({size_t(2048 / threads), size_t(228 << 10) / shared, 32}));
  return SUCCESS;
}

CU cuLaunchKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Stream* stream, void** arguments, void**) {
  unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
  return launch(f, grid, block, shared, stream, arguments);
}
struct LaunchAttribute { int id; char pad[4], value[64]; };
struct LaunchConfig { unsigned grid[3], block[3], shared; Stream* stream; LaunchAttribute* attributes; unsigned count; };
CU cuLaunchKernelEx(const LaunchConfig* config, Function* f, void** arguments, void**) {
  for (unsigned i = 0; i < config->count; ++i)
    if (config->attributes[i].id == 2 || config->attributes[i].id == 4) return failed(NOT_SUPPORTED, "cooperative launches and clusters are not emulated");
  return launch(f, config->grid, config->block, config->shared, config->stream, arguments);
}
