// Convolutions over one to three spatial axes, channels last. Fewer axes: leading ones of size 1.
//
//   forward          y[n,o,f]  = act( sum_k,c x[n, o * stride + k * dilation - before, c] *
//                                     w[k,c,f] + bias[f] )
//   input_gradient   dx[n,i,c] = act( sum of dy[n,o,f] * w[k,c,f] over all k, f and the o with
//                                     o * stride + k * dilation - before = i, + bias[c] )
//   filter_gradient  dw[k,c,f] = sum_n,o x[n, o * stride + k * dilation - before, c] * dy[n,o,f]
//
// x (N, *in, C), w (*kernel, C / groups, F), y (N, *out, F); cells outside of an image are 0.
// Groups cut channels and filters into equal runs. A transposed convolution is the input gradient
// (dy its input, dx its output, hence bias and act there). Outputs are overwritten and overlap no
// input. Every order of summation depends on the shape alone: the same bits for any number of
// threads. Where it pays, 3 x 3 to 5 x 5 (3 and 5) taps of stride 1, or a step of the stride, go by
// Winograd's algorithm: winograd.h states its error, and how far a value that is not finite
// spreads.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/isa.h"

namespace narae {

struct ConvShape {
  std::int64_t N, C, F, groups;
  std::int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
  std::int64_t before[3];  // cells of padding before the first
};

template <class T>
struct ConvArgs {
  ConvShape shape;
  const T *a, *b;  // the two inputs, in the order of the name
  T* out;          // y, dx or dw
  const T* bias;   // or nullptr
  void (*activate)(const Real<T>* x, Real<T>* y, std::int64_t n);  // or nullptr
  Real<T>* workspace;                                              // *_workspace elements
};

template <class T>
struct Conv {
  // rows[(n,o), (k,c)] = x[n, o * stride + k * dilation - before, c]: forward is rows times w. For
  // few positions, to which w would be packed in vain. groups = 1.
  void (*patches)(const ConvShape& shape, const T* x, T* rows);
  std::int64_t (*forward_workspace)(const ConvShape& shape);
  void (*forward)(const ConvArgs<T>& args);  // a = x, b = w
  std::int64_t (*input_gradient_workspace)(const ConvShape& shape);
  void (*input_gradient)(const ConvArgs<T>& args);  // a = dy, b = w
  std::int64_t (*filter_gradient_workspace)(const ConvShape& shape);
  void (*filter_gradient)(const ConvArgs<T>& args);  // a = x, b = dy
};
template <>
inline constexpr bool kGainsFromBf16<Conv<BFloat16>> = true;

// Convolution of each channel by itself: groups = C, F = C * M. The same contract; vectors run over
// channels.
template <class T>
struct DepthwiseConv {
  std::int64_t (*forward_workspace)(const ConvShape& shape);
  void (*forward)(const ConvArgs<T>& args);
  std::int64_t (*input_gradient_workspace)(const ConvShape& shape);
  void (*input_gradient)(const ConvArgs<T>& args);
  std::int64_t (*filter_gradient_workspace)(const ConvShape& shape);
  void (*filter_gradient)(const ConvArgs<T>& args);
};

}  // namespace narae
