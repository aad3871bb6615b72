// Activation functions, element by element, with their derivatives.
//
//   forward   y = f(x; p)
//   backward  dx = dy * f'(x; p)       relu, sigmoid and tanh take y in place of x
//
// p are the function's parameters, up to three (see activation.cpp); functions without parameters
// are also in `plain`, in the form that the epilogue of gemm takes. y may be x, dx may be dy.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "kernels/functions.h"

namespace narae {

template <class T>
struct ActivationParameters {
  Real<T> value[3];
};

template <class T>
using ActivationRow = void (*)(const T* x, T* y, std::int64_t n, const ActivationParameters<T>& p);
template <class T>
using ActivationBackwardRow = void (*)(const T* dy, const T* x, T* dx, std::int64_t n,
                                       const ActivationParameters<T>& p);
template <class T>
using PlainActivation = void (*)(const T* x, T* y, std::int64_t n);

template <class T>
struct Activation {
  Functions<ActivationRow<T>> forward;
  Functions<ActivationBackwardRow<T>> backward;
  Functions<PlainActivation<T>> plain;
  void (*run_forward)(ActivationRow<T> row, const T* x, T* y, std::int64_t n,
                      ActivationParameters<T> p);
  void (*run_backward)(ActivationBackwardRow<T> row, const T* dy, const T* x, T* dx, std::int64_t n,
                       ActivationParameters<T> p);
};

}  // namespace narae
