// Lists of functions by name: a kernel source lists what it has, the binding offers each by its
// name.
#pragma once

namespace narae {

template <class F>
struct Named {
  const char* name;
  F function;
};

template <class F>
struct Functions {
  const Named<F>* items;
  int size;

  F find(const char* name) const {  // nullptr when there is none
    for (int i = 0; i < size; ++i) {
      if (__builtin_strcmp(items[i].name, name) == 0) return items[i].function;
    }
    return nullptr;
  }
};

template <class F, int N>
constexpr Functions<F> list(const Named<F> (&items)[N]) {
  return {items, N};
}

}  // namespace narae
