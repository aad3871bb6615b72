#include "kernels/activation.h"

#include "core/isa.h"
#include "core/vecmath.h"
#include "kernels/elementwise_rows.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
Vec<T> zero() {
  return Vec<T>{};
}
template <class T>
Vec<T> clamp(Vec<T> x, T low, T high) {  // NaN stays
  x = x < low ? broadcast(low) : x;
  return x > high ? broadcast(high) : x;
}

// Each: y(x, p) = f(x), dx(dy, s, p) = dy f'(s). s is x, or y where said.

struct Relu {  // s = y
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x < 0 ? zero<T>() : x;
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> y, const T*) {
    return y > 0 ? dy : zero<T>();
  }
};
struct Sigmoid {  // s = y
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return sigmoid<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> y, const T*) {
    return dy * y * (T(1) - y);
  }
};
struct Tanh {  // s = y
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return tanh<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> y, const T*) {
    return dy * (T(1) - y * y);
  }
};
struct Relu6 {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return clamp(x, T(0), T(6));
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return ((x > 0) & (x < 6)) ? dy : zero<T>();
  }
};
struct GeneralRelu {  // p = negative_slope, max_value, threshold
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    const Vec<T> low = p[0] == 0 ? (x != x ? x : zero<T>()) : p[0] * (x - p[2]);
    return x > p[2] ? (x > p[1] ? broadcast(p[1]) : x) : low;
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return x > p[2] ? (x < p[1] ? dy : zero<T>()) : dy * p[0];
  }
};
struct LeakyRelu {  // p = negative_slope
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return x > 0 ? x : p[0] * x;
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return x > 0 ? dy : p[0] * dy;
  }
};
struct Elu {  // p = alpha
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return x > 0 ? x : p[0] * expm1<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return x > 0 ? dy : dy * (p[0] * exp<T>(x));
  }
};
struct Celu {  // p = alpha
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return x > 0 ? x : p[0] * expm1<T>(x / p[0]);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return x > 0 ? dy : dy * exp<T>(x / p[0]);
  }
};
struct Selu {
  static constexpr double kAlpha = 1.6732632423543772, kScale = 1.0507009873554805;
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x > 0 ? T(kScale) * x : T(kScale * kAlpha) * expm1<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return dy * (x > 0 ? broadcast(T(kScale)) : T(kScale * kAlpha) * exp<T>(x));
  }
};
struct Gelu {  // x Phi(x)
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x * Normal<T>(x).Phi;
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    const Normal<T> normal(x);
    return dy * (normal.Phi + x * normal.phi);
  }
};
struct GeluTanh {  // x s(x), s = (1 + tanh u) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715
                   // x^3)
  static constexpr double kTwice = 1.5957691216057307117;  // 2 sqrt(2 / pi)
  template <class T>
  static Vec<T> s(Vec<T> x) {
    return sigmoid<T>(x * (T(kTwice) + T(kTwice * 0.044715) * (x * x)));
  }
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x * s<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    const Vec<T> s_x = s<T>(x);
    return dy * (s_x + x * s_x * (T(1) - s_x) * (T(kTwice) + T(3 * kTwice * 0.044715) * (x * x)));
  }
};
struct Silu {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x * sigmoid<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    const Vec<T> s = sigmoid<T>(x);
    return dy * (s + x * s * (T(1) - s));
  }
};
struct Mish {  // x t, t = tanh(log(1 + e)) = n / (n + 2), n = e (e + 2), e = exp(x)
  template <class T>
  static Vec<T> t(Vec<T> x) {
    constexpr T kOne = 20;  // t rounds to 1 from here on
    const Vec<T> e = exp<T>(x > kOne ? broadcast(kOne) : x), n = e * (e + T(2));
    return n / (n + T(2));
  }
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x * t<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    const Vec<T> t_x = t<T>(x);
    return dy * (t_x + x * (T(1) - t_x * t_x) * sigmoid<T>(x));
  }
};
struct Softplus {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return softplus<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return dy * sigmoid<T>(x);
  }
};
struct LogSigmoid {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return -softplus<T>(-x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return dy * sigmoid<T>(-x);
  }
};
struct Softsign {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x / (T(1) + abs<T>(x));
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    const Vec<T> d = T(1) + abs<T>(x);
    return dy / (d * d);
  }
};
struct HardSigmoid {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return clamp<T>(x / T(6) + T(0.5), 0, 1);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return ((x > -3) & (x < 3)) ? dy / T(6) : zero<T>();
  }
};
struct HardSilu {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x * clamp<T>(x / T(6) + T(0.5), 0, 1);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return x >= 3 ? dy : x <= -3 ? zero<T>() : dy * (x / T(3) + T(0.5));
  }
};
struct HardTanh {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return clamp<T>(x, -1, 1);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return ((x > -1) & (x < 1)) ? dy : zero<T>();
  }
};
struct HardShrink {  // p = threshold
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return abs<T>(x) <= p[0] ? zero<T>() : x;
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return abs<T>(x) <= p[0] ? zero<T>() : dy;
  }
};
struct SoftShrink {  // p = threshold
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return x > p[0] ? x - p[0] : x < -p[0] ? x + p[0] : x != x ? x : zero<T>();
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return abs<T>(x) <= p[0] ? zero<T>() : dy;
  }
};
struct TanhShrink {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x - tanh<T>(x);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    const Vec<T> t = tanh<T>(x);
    return dy * t * t;
  }
};
struct Threshold {  // p = threshold, default_value
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return x <= p[0] ? broadcast(p[1]) : x;
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return x <= p[0] ? zero<T>() : dy;
  }
};
struct Squareplus {  // p = b
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return T(0.5) * (x + sqrt<T>(x * x + p[0]));
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return dy * (T(0.5) + T(0.5) * (x / sqrt<T>(x * x + p[0])));
  }
};
struct SparsePlus {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return x >= 1 ? x : x <= -1 ? zero<T>() : T(0.25) * (x + T(1)) * (x + T(1));
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return dy * clamp<T>(T(0.5) * (x + T(1)), 0, 1);
  }
};
struct SparseSigmoid {
  template <class T>
  static Vec<T> y(Vec<T> x, const T*) {
    return clamp<T>(T(0.5) * (x + T(1)), 0, 1);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T*) {
    return ((x > -1) & (x < 1)) ? T(0.5) * dy : zero<T>();
  }
};
struct Clip {  // p = low, high
  template <class T>
  static Vec<T> y(Vec<T> x, const T* p) {
    return clamp(x, p[0], p[1]);
  }
  template <class T>
  static Vec<T> dx(Vec<T> dy, Vec<T> x, const T* p) {
    return ((x >= p[0]) & (x <= p[1])) ? dy : zero<T>();
  }
};

template <class F, class T>
void forward_row(const T* x, T* y, std::int64_t n, const ActivationParameters<T>& p) {
  for_lanes<T>(n, [&](std::int64_t i, std::int64_t lanes) {
    store_lanes<T>(y + i, F::template y<Real<T>>(load_lanes(x + i, lanes), p.value), lanes);
  });
}

template <class F, class T>
void plain_row(const T* x, T* y, std::int64_t n) {
  forward_row<F, T>(x, y, n, ActivationParameters<T>{});
}

template <class F, class T>
void backward_row(const T* dy, const T* x, T* dx, std::int64_t n,
                  const ActivationParameters<T>& p) {
  for_lanes<T>(n, [&](std::int64_t i, std::int64_t lanes) {
    store_lanes<T>(
        dx + i,
        F::template dx<Real<T>>(load_lanes(dy + i, lanes), load_lanes(x + i, lanes), p.value),
        lanes);
  });
}

template <class T>
void run_forward(ActivationRow<T> row, const T* x, T* y, std::int64_t n,
                 ActivationParameters<T> p) {
  parallel_ranges(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    row(x + begin, y + begin, end - begin, p);
  });
}

template <class T>
void run_backward(ActivationBackwardRow<T> row, const T* dy, const T* x, T* dx, std::int64_t n,
                  ActivationParameters<T> p) {
  parallel_ranges(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    row(dy + begin, x + begin, dx + begin, end - begin, p);
  });
}

template <class T>
constexpr Named<ActivationRow<T>> kForward[] = {
    {"relu", forward_row<Relu, T>},
    {"sigmoid", forward_row<Sigmoid, T>},
    {"tanh", forward_row<Tanh, T>},
    {"relu6", forward_row<Relu6, T>},
    {"general_relu", forward_row<GeneralRelu, T>},
    {"leaky_relu", forward_row<LeakyRelu, T>},
    {"elu", forward_row<Elu, T>},
    {"celu", forward_row<Celu, T>},
    {"selu", forward_row<Selu, T>},
    {"gelu", forward_row<Gelu, T>},
    {"gelu_tanh", forward_row<GeluTanh, T>},
    {"silu", forward_row<Silu, T>},
    {"mish", forward_row<Mish, T>},
    {"softplus", forward_row<Softplus, T>},
    {"log_sigmoid", forward_row<LogSigmoid, T>},
    {"softsign", forward_row<Softsign, T>},
    {"hard_sigmoid", forward_row<HardSigmoid, T>},
    {"hard_silu", forward_row<HardSilu, T>},
    {"hard_tanh", forward_row<HardTanh, T>},
    {"hard_shrink", forward_row<HardShrink, T>},
    {"soft_shrink", forward_row<SoftShrink, T>},
    {"tanh_shrink", forward_row<TanhShrink, T>},
    {"threshold", forward_row<Threshold, T>},
    {"squareplus", forward_row<Squareplus, T>},
    {"sparse_plus", forward_row<SparsePlus, T>},
    {"sparse_sigmoid", forward_row<SparseSigmoid, T>},
    {"clip", forward_row<Clip, T>},
};
template <class T>
constexpr Named<ActivationBackwardRow<T>> kBackward[] = {
    {"relu", backward_row<Relu, T>},
    {"sigmoid", backward_row<Sigmoid, T>},
    {"tanh", backward_row<Tanh, T>},
    {"relu6", backward_row<Relu6, T>},
    {"general_relu", backward_row<GeneralRelu, T>},
    {"leaky_relu", backward_row<LeakyRelu, T>},
    {"elu", backward_row<Elu, T>},
    {"celu", backward_row<Celu, T>},
    {"selu", backward_row<Selu, T>},
    {"gelu", backward_row<Gelu, T>},
    {"gelu_tanh", backward_row<GeluTanh, T>},
    {"silu", backward_row<Silu, T>},
    {"mish", backward_row<Mish, T>},
    {"softplus", backward_row<Softplus, T>},
    {"log_sigmoid", backward_row<LogSigmoid, T>},
    {"softsign", backward_row<Softsign, T>},
    {"hard_sigmoid", backward_row<HardSigmoid, T>},
    {"hard_silu", backward_row<HardSilu, T>},
    {"hard_tanh", backward_row<HardTanh, T>},
    {"hard_shrink", backward_row<HardShrink, T>},
    {"soft_shrink", backward_row<SoftShrink, T>},
    {"tanh_shrink", backward_row<TanhShrink, T>},
    {"threshold", backward_row<Threshold, T>},
    {"squareplus", backward_row<Squareplus, T>},
    {"sparse_plus", backward_row<SparsePlus, T>},
    {"sparse_sigmoid", backward_row<SparseSigmoid, T>},
    {"clip", backward_row<Clip, T>},
};
template <class T>
constexpr Named<PlainActivation<T>> kPlain[] = {
    {"relu", plain_row<Relu, T>},
    {"sigmoid", plain_row<Sigmoid, T>},
    {"tanh", plain_row<Tanh, T>},
};

template <class T>
constexpr Activation<T> kTable = {list(kForward<T>), list(kBackward<T>), list(kPlain<T>),
                                  run_forward<T>, run_backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Activation<float>& implementation<Activation<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Activation<BFloat16>& implementation<Activation<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}
template <>
const Activation<double>& implementation<Activation<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
