// Whether an access is inside what it may touch (check and race).
#include "runtime.h"
#ifdef EMU_INSTRUMENTED
#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>

namespace emu {
// This library in memory. The kernels' writable statics are their __shared__ variables; those without an initial value, as all
// __shared__ variables are, lie in its .bss.
static uintptr_t module_start, module_end, data_start, data_end, bss_start;
static int find_module(dl_phdr_info* info, size_t, void*) {
  auto here = reinterpret_cast<uintptr_t>(&find_module);
  uintptr_t lo = ~uintptr_t(0), hi = 0, data_lo = lo, data_hi = 0, bss = 0;
  for (int k = 0; k < info->dlpi_phnum; ++k) {
    auto& segment = info->dlpi_phdr[k];
    if (segment.p_type != PT_LOAD) continue;
    uintptr_t a = info->dlpi_addr + segment.p_vaddr, b = a + segment.p_memsz;
    lo = std::min(lo, a), hi = std::max(hi, b);
    if (segment.p_flags & PF_W) data_lo = std::min(data_lo, a), data_hi = std::max(data_hi, b), bss = a + segment.p_filesz;
  }
  if (here < lo || here >= hi) return 0;
  module_start = lo, module_end = hi, data_start = data_lo, data_end = data_hi, bss_start = bss;
  return 1;
}

// A __shared__ array or a constant: from the compiler with its guard zone (check), from the symbol table (race).
struct Variable { uintptr_t start; size_t size, padded; std::string name; bool shared; };
static std::vector<Variable>& variables() {
  static std::vector<Variable> all;
  return all;
}
void add_variable(uintptr_t start, size_t size, size_t padded, const char* name, bool shared) { variables().push_back({start, size, padded, name, shared}); }
static const Variable* find_variable(uintptr_t address) {
  static const Variable* last;
  if (last && address - last->start < last->padded) return last;
  auto& all = variables();
  auto it = std::upper_bound(all.begin(), all.end(), address, [](uintptr_t x, const Variable& v) { return x < v.start; });
  if (it == all.begin() || address - (it - 1)->start >= (it - 1)->padded) return nullptr;
  return last = &*(it - 1);
}
#ifdef EMU_RACE
static void read_symbols() {
  Dl_info module;
  if (!dladdr(reinterpret_cast<void*>(&read_symbols), &module)) return;
  FILE* file = fopen(module.dli_fname, "rb");
  if (!file) return;
  std::string image;
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) image.append(buffer, n);
  fclose(file);
  auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image.data());
  auto* sections = reinterpret_cast<const ElfW(Shdr)*>(image.data() + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    auto* symbols = reinterpret_cast<const ElfW(Sym)*>(image.data() + sections[i].sh_offset);
    const char* names = image.data() + sections[sections[i].sh_link].sh_offset;
    bool kernels = false;  // local symbols follow the name of their source
    for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; ++k) {
      if ((symbols[k].st_info & 15) == STT_FILE) {
        const char* ending = strrchr(names + symbols[k].st_name, '.');
        kernels = ending && !strcmp(ending, ".cu");
      }
      uintptr_t start = symbols[k].st_value + uintptr_t(module.dli_fbase);
      const char* name = names + symbols[k].st_name;
      if (!kernels || (symbols[k].st_info & 15) != STT_OBJECT || start < data_start || start >= data_end || !symbols[k].st_size || strncmp(name, "_ZZ", 3)) continue;
      int status;
      char* readable = abi::__cxa_demangle(name, nullptr, nullptr, &status);
      const char* colon = readable ? strrchr(readable, ':') : nullptr;
      add_variable(start, symbols[k].st_size, symbols[k].st_size, colon ? colon + 1 : name, true);
      free(readable);
    }
  }
}
#endif
void prepare_checks() {
  if (module_start) return;
  dl_iterate_phdr(find_module, nullptr);
#ifdef EMU_RACE
  read_symbols();
  size_shared_shadow(data_end - data_start);
#endif
  auto& all = variables();
  std::sort(all.begin(), all.end(), [](const Variable& a, const Variable& b) { return a.start < b.start; });
  for (auto& v : all) v.shared = v.shared && v.start >= bss_start && v.start < data_end;
}
// Shared memory starts as NaNs in every block.
void poison_shared(size_t dynamic_bytes) {
  memset(worker->block.dynamic, 0xff, dynamic_bytes);
  for (auto& v : variables())
    if (v.shared) memset(reinterpret_cast<void*>(v.start), 0xff, v.size);
}

std::string describe(uintptr_t address) {
  const Block& block = worker->block;
  if (address - uintptr_t(block.dynamic) < MAX_SHARED) return format("dynamic shared memory + %zu (of %zu bytes)", address - uintptr_t(block.dynamic), block.dynamic_size);
  if (const Variable* v = find_variable(address)) return format("%s variable '%s' + %zu (of %zu bytes)", v->shared ? "__shared__" : "constant", v->name.c_str(), address - v->start, v->size);
  if (address >= data_start && address < data_end) return "static memory";
  return describe_allocation(address);
}
[[noreturn]] static void outside(uintptr_t address, unsigned bytes, bool write, const void* site) {
  fail(ILLEGAL_ADDRESS, format("%s %s %u bytes out of bounds: %s, at %s", who(self).c_str(), write ? "writes" : "reads", bytes, describe(address).c_str(), line_of(site).c_str()));
}
void access(uintptr_t address, unsigned bytes, bool write, bool atomic, const void* site) {
  if (!self) return;
  Worker& w = *worker;
  Fiber* f = me();
  (void)atomic;
  // The thread's own stack, and what the shim keeps for it.
  if (address - (uintptr_t(w.stacks) + size_t(f->stack) * STACK) < STACK) return;
  if (address - uintptr_t(w.fibers) < MAX_THREADS * sizeof(Fiber) || address == uintptr_t(&self)) return;
  if (address - uintptr_t(w.block.dynamic) < MAX_SHARED + 4096) {
    size_t offset = address - uintptr_t(w.block.dynamic);
    if (offset + bytes > w.block.dynamic_size) outside(address, bytes, write, site);
#ifdef EMU_RACE
    shadow_shared(true, offset, address, bytes, write, atomic, site);
    if (options.lint) lint_access(offset, bytes, write, true, site);
#endif
    return;
  }
  if (address >= module_start && address < module_end) {
    const Variable* v = find_variable(address);
    if (v && address + bytes > v->start + v->size) outside(address, bytes, write, site);
#ifdef EMU_RACE
    if (address >= data_start && address < data_end) {
      if (!v && address >= bss_start) outside(address, bytes, write, site);
      shadow_shared(false, address - data_start, address, bytes, write, atomic, site);
      if (options.lint) lint_access(address, bytes, write, true, site);
    }
#endif
    return;
  }
  static Allocation* last;
  if (!last || last->freed || address - last->start >= last->size) last = find_allocation(address);
  Allocation* a = last;
  if (!a || a->freed || address - a->start + bytes > a->size) {
    last = nullptr;
    outside(address, bytes, write, site);
  }
#ifdef EMU_RACE
  shadow_global(a, address, bytes, write, atomic, site);
  if (options.lint) lint_access(address, bytes, write, false, site);
  if (options.sched == 2 && !(w.draw() & 63)) yield();  // preempted at an access
#endif
}
#ifdef EMU_RACE
void forget_initialised(uintptr_t shared, unsigned bytes) {
  const Block& block = worker->block;
  const bool dynamic = shared - uintptr_t(block.dynamic) < MAX_SHARED;
  shadow_forget(dynamic, shared - (dynamic ? uintptr_t(block.dynamic) : data_start), bytes);
}
#endif
}  // namespace emu
#endif
namespace emu {
void on_atomic(void* p, unsigned bytes, const void* site) {
  (void)p, (void)bytes, (void)site;
#ifdef EMU_INSTRUMENTED
  access(uintptr_t(p), bytes, true, true, site);
#endif
#ifdef EMU_RACE
  publish(uintptr_t(p));
#endif
  if (!(++me()->atomics & 255)) yield();  // a spinning thread lets the others run
}
}  // namespace emu
