#include "kernels/gemm.h"

#include "core/isa.h"
#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
struct BiasActivation {
  T* c;
  std::int64_t c_row;
  const T* bias;
  void (*activate)(const T*, T*, std::int64_t);

  void operator()(std::int64_t m0, std::int64_t rows, std::int64_t n0, std::int64_t cols) const {
    if (!bias && !activate) return;
    for (std::int64_t m = m0; m < m0 + rows; ++m) {
      T* c_m = c + m * c_row + n0;
      if (bias) {
        for_lanes<T>(cols, [&](std::int64_t j, std::int64_t lanes) {
          store_lanes<T>(c_m + j, load_lanes(c_m + j, lanes) + load_lanes(bias + n0 + j, lanes),
                         lanes);
        });
      }
      if (activate) activate(c_m, c_m, cols);
    }
  }
};

// Small products, and few rows: A is read where it is; B too, but for its ragged last strip, when
// its rows are contiguous. Splits the sum as the blocked product does.
template <class T, class Epilogue>
void direct_product(const MatmulArgs<T>& p, std::int64_t n_begin, std::int64_t n_end,
                    const Epilogue& epilogue) {
  T* strip = static_cast<T*>(scratch());
  const StridedB<T> source_b{p.b, p.b_row, p.b_col};
  for (std::int64_t n = n_begin; n < n_end; n += kNR<T>) {
    const std::int64_t cols = smaller(kNR<T>, n_end - n);
    for (std::int64_t k0 = 0; k0 < p.K; k0 += kKC<T>) {
      const std::int64_t depth = smaller(kKC<T>, p.K - k0);
      const bool in_place = p.b_col == 1 && cols == kNR<T>;
      if (!in_place) source_b.pack(k0, depth, n, cols, strip);
      const T* b = in_place ? p.b + k0 * p.b_row + n : strip;
      for (std::int64_t m = 0; m < p.M; m += kMR) {
        tile<T, false>(smaller(kMR, p.M - m), cols, depth, p.a + m * p.a_row + k0 * p.a_col,
                       p.a_row, p.a_col, b, in_place ? p.b_row : kNR<T>, p.c + m * p.N + n, p.N,
                       k0 > 0);
      }
    }
  }
  epilogue(0, p.M, n_begin, n_end - n_begin);
}

template <class T>
bool is_small(const MatmulArgs<T>& p) {
  return p.M <= 2 * kMR || (p.M <= 128 && p.N * p.K <= 128 * 128);
}

template <class T>
void single_matmul(const MatmulArgs<T>& p, bool parallel) {
  const BiasActivation<T> epilogue{p.c, p.N, p.bias, p.activate};
  if (p.K == 0) {
    for (std::int64_t i = 0; i < p.M * p.N; ++i) p.c[i] = T(0);
    epilogue(0, p.M, 0, p.N);
  } else if (is_small(p)) {
    // About 1 MFLOP a chunk
    const std::int64_t grain = round_up(1 + (std::int64_t{1} << 19) / (p.M * p.K), kNR<T>);
    const auto columns = [&](std::int64_t begin, std::int64_t end) {
      direct_product(p, begin, end, epilogue);
    };
    if (parallel) {
      parallel_ranges(p.N, grain, columns);
    } else {
      columns(0, p.N);
    }
  } else {
    const StridedA<T> a{p.a, p.a_row, p.a_col};
    const StridedB<T> b{p.b, p.b_row, p.b_col};
    if (parallel) {
      blocked_product(p.M, p.N, p.K, a, b, p.c, p.N, p.workspace, epilogue);
    } else {
      serial_product(p.M, p.N, p.K, a, b, p.c, p.N, epilogue);
    }
  }
}

template <class T>
void matmul(const MatmulArgs<T>& p) {
  if (p.M == 0 || p.N == 0) return;
  std::int64_t batches = 1;
  for (int d = 0; d < p.batch_dims; ++d) batches *= p.batch[d];
  if (batches == 1) return single_matmul(p, true);
  const std::int64_t grain = 1 + (std::int64_t{1} << 19) / (p.M * p.N * p.K + 1);
  const bool inner = batches < 8 && p.M * p.N * p.K > std::int64_t{1}
                                                          << 24;  // few and large: threads inside
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      MatmulArgs<T> one = p;
      for (std::int64_t d = p.batch_dims - 1, rest = index; d >= 0; --d) {
        one.a += rest % p.batch[d] * p.a_batch[d];
        one.b += rest % p.batch[d] * p.b_batch[d];
        rest /= p.batch[d];
      }
      one.c += index * p.M * p.N;
      single_matmul(one, inner);
    }
  };
  if (inner) {
    range(0, batches);
  } else {
    parallel_ranges(batches, grain, range);
  }
}

template <class T>
std::int64_t workspace_size(std::int64_t, std::int64_t N, std::int64_t K) {
  return blocked_workspace(N, K, kKC<T>, kNR<T>);
}

// Columns are split over threads, rows are summed in order.
template <class T>
void bias_backward(const T* dy, T* db, std::int64_t M, std::int64_t N) {
  const std::int64_t grain = round_up(1 + (std::int64_t{1} << 16) / (M + 1), 4 * kLanes<T>);
  parallel_ranges(N, grain, [&](std::int64_t begin, std::int64_t end) {
    for_lanes<T>(end - begin, [&](std::int64_t j, std::int64_t lanes) {
      Vec<T> total = {};
      for (std::int64_t m = 0; m < M; ++m) total += load_lanes(dy + m * N + begin + j, lanes);
      store_lanes<T>(db + begin + j, total, lanes);
    });
  });
}

template <class T>
constexpr Gemm<T> kTable = {workspace_size<T>, matmul<T>, bias_backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Gemm<float>& implementation<Gemm<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Gemm<double>& implementation<Gemm<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
