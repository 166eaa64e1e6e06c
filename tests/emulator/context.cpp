// Switching between the stacks of a block's threads.
#include "runtime.h"

#if defined(__x86_64__)
// System V: save the callee-saved registers, swap stacks. Kernels do not change the floating-point control words.
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch,.-emu_switch
)");
namespace emu {
void* new_context(void*, char* stack, size_t bytes, void (*entry)()) {
  auto p = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15));
  *--p = nullptr;  // a return address that is never used: keeps the stack aligned at entry
  *--p = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--p = nullptr;
  return p;
}
}  // namespace emu
#else  // a system call per switch
#include <ucontext.h>
extern "C" void emu_switch(void** save, void* to) {
  if (!*save) *save = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(*save), static_cast<ucontext_t*>(to));
}
namespace emu {
void* new_context(void* previous, char* stack, size_t bytes, void (*entry)()) {
  auto* context = previous ? static_cast<ucontext_t*>(previous) : new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = stack, context->uc_stack.ss_size = bytes, context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}
}  // namespace emu
#endif
