// The runtime's own interface, which the driver is built on.
#pragma once
#include <cstddef>

namespace emu { struct KernelInfo; }
extern "C" {
int emu_launch_info(const emu::KernelInfo*, const unsigned grid[3], const unsigned block[3], unsigned shared_bytes, void** args);
const emu::KernelInfo* emu_kernel_find(const char* name);
size_t emu_kernel_parameters(const emu::KernelInfo*, const unsigned** sizes);
const char* emu_last_error();
void emu_set(const char* name, long value);
void* emu_alloc(size_t);
int emu_free(void*);
int emu_h2d(void* device, const void* host, size_t);
int emu_d2h(void* host, const void* device, size_t);
int emu_d2d(void* to, const void* from, size_t);
// Fills with copies of `width` bytes.
int emu_memset(void* device, const void* value, size_t width, size_t bytes);
// Memory of the host that kernels may use: everything in it counts as initialised.
void emu_mark_initialised(void* device, size_t);
}
