import { gunzipSync } from 'node:zlib'

/*
 * Filesystems made by e2fsprogs 1.47.0 of one small tree (`GOLDEN_FILES` and more), compressed by gzip:
 *
 *   csum  mke2fs -t ext4 -b 1024 -I 256 -N 96 -g 512 -L golden -d tree, 512 KiB
 *         -O ^has_journal,inline_data,ea_inode,metadata_csum,64bit,^resize_inode
 *         then debugfs ea_set and mknod, then e2fsck -fyD, which makes the large directory a hashed one
 *   old   mke2fs -t ext2 -b 1024 -I 128 -N 96 -g 512 -O ^resize_inode -d tree, 768 KiB
 *         then debugfs write of a file of 300 blocks, so that it has a double indirect block
 */

const CSUM = [
  'H4sIAAAAAAACA+3dCbwUdQEH8NndxyGQQiJegSto4cWpgIDKU0ztwAxM8+TBW+DJ8h68t/hAzaPDPLrsMq9KpSS1TNI8UjO0UvMoj/JKu6wnpeaR',
  'Wqa0M2+fHx4Mx3D4gvl++Sw7u/v2P/Ob//x35j+zsxMEQFpNDv/LBsG25bs7MkHQt3yfWfYPsq23yW2PX5xYCIKlSye+kIn+rnlqZmbbS23v6155',
  'MLB8t/jMIJhZVX444MDpZ1913wtt99MbirWF+nc261tP3vyNEycN69l2nwnGBT3a5Vq/8uV/mZjnq8pPHraJLUd9NaWNzilXfvrkXPl+y/JtQNT+',
  '+wadgqrotecHfOCvfYO7u6zsvY8vHPu0OQgbt6WttljLt5++FNhohZv3PYJMdlBlU79HkM0OGtS6Dd876JYtNjSVdpvWMLe+Noi2lXsHm2VqiqVC',
  'Y31NKdxgflf51jPokpkyv1RoWvpssHlURi5bW9cYbBG91ikzu1hTF27q96o8LsyaXZpfHn539LdVXabVNJW2jF7rnJ1R0zSjUB7X2NbHmbr6Yl19',
  'eUT7ROPuXnmcn9XQWAj2bR1Xl+KIIcF+rWV1ml03uzCuUm5TsaH5gPB9uaqq2rqmmT7toVW5LT911S0Tbui+XPtvybW2f2DTbv+vHzoxHw6/kjM/',
  'IG3t/8xTz3xY+wftH9D+Ae0f0P4B7R/Q/gHtH9D+gY23/VcDqbU/kFoHAKnVdh5w+EMfzoaGdBkPpNaBQGp1e7lrMGmZ4wLh71X2DFp/CyQcDn+z',
  'p6oyHP5eT+fKcO/yrWtleKvyrVtleOvWYwvR8Dbl2+aV4W0dcoH/K5sdtO9T7wdS6yAgtQ4GUivIZHNVnTp36bpZt+493rX5Fj17vXvL3lv12Xqb',
  'bbfb/j19++2Q37H/gJ12fu/7Bu6y62677zFo8JChw4bvudeIkaP2Hj1m7D777jeuev8Dxh/4/oMOPuQDH/zQhycc+pHDPjpx0uEfO+LIjx919DHH',
  'Hnf85JopU2sL06bPqDthZnFWfcPsOY1NpbknNs+bf9LJp3zi1NNOP+OTn/r0Z8787Flnn3Pu5z7/hS9+6bwvf+WrX/v6+d+44MKLLr7km9/69qWX',
  'Xb7gO9+9YuH3rrzq6u//4JofXrvoR9dd/+Mbbrzp5p/ccuttP739Z4vvuPPnv/jlXXff86t777v/gV//5sGHHn7kt7979LHHn3jy9089/Yc//unP',
  'f3nmr39reXbJ3//x3PMv/PPFl15+5V+vvvb6v//zxn/ffGup/PLLL7/88ssvv/zypyn/lkH73/9/ZZnf/890DYKTg6ro+N3HHj73gPD1o+acsyg8',
  'XfCk+Te/VOUQCmy85wDe8amdR5bvxwWjMvU1swr5+rmzphQa83vlm+tKM/Jz5taVCvmafLGhfnq+VFNXzDc15Eszakr5KcWGqTOb8tPqisXwo2J8',
  'sHe79w8flqCAyncGli9j6NBkZfSPKWNYwjJGxcyLEQmKGBA3DQnnRd+4eTEyWRnD4upkRLIydo7LsmeyMraJy5Jwfuwel2VIsjJ2iJuOvZOVMaJ8',
  'u3e5ZSPh7Pi/O//3oTsfPWXbuHkzPFmw98UtKwmXt94xbS9JNfeJy5FwOdk7ZhqSNL0xMe9Pspj1i8swKlmGrWKmIcnH4K5xdZmwreRjpiFJs98l',
  'bhoSzofRMdOQpIjB5fc/ufznzvCNuMHHtP/8v64/JMwweBP4z9YcrI3skkzlO7qha6qfvHXZV6sy46OXbil3/ifMf+qusLGZZ+3Nh43USUBqvb0S',
  'e3Fi4e3bO+SK33b8uvu56soJTivk7xQdD2k9yykIur2cCaqWO09qXY9/LPxF2Fd+5pB2T76D87+jTXoz3duNtx2V7vz/nJzu/P1Tfp31Yu9053+1',
  'Jt35bzw63flP2Krjp+H26spBthW2f7JBn1Vs/3SPtpDWzf2Lw+2fHfqtevsnu2RD5l9wRksuGNs63uapmZlt42/JZYLeK+TPvP2+Pm1TF6z+PPmV',
  'Ofa8MP+CN1aXv1O54OqgdQSHjxl5RrGmcXphfeYP4vNX9NxQ8/6NU8P8I19aXf6qLse0e6a2prTePjmfq27JhdUfZm+fP9cuf1jPW0T1uVlmRk1j',
  'bb5YVz+z8mKPIJdtmjsl2D8Ij3lX5ernrtnhnyMOC/Pfdsna5O/SeVw0vF3luaZCeYLmzosdT9P8plJh1vFzRzdMOaEwtXR84+hCaerxpdFNQyr1',
  '3yOu/rOVJT++/eeWGfea2DHmuWP+EeYfuutq82cmVXpkreobSuu8+DfNaGgsrbL+s+3qf/PKg1HrcflfdFCYv3pYRy7/Hdn+Lzs/zH/rEx2Zf+ml',
  'LblOq84fmV2sqatfz/mfaQ7zH96vI/v/4fIfrqTilv9uUe23tf/sCu2/b+U+bClj1mLcF04L8+8zp8PX/x20/D88Psy/+NK0tv8Lo/X/nJvSmv/g',
  'IdH235fSmr9ztzD/1melNf/Fp4X5z++c1vwPHhjm36lfWvOHneh88OLItOafMDTMv//gtOZf8PUw/9G1ac2/5Oowf8spac0/6k/R9u/hac1/4qNh',
  '/i98OK35B30/zP/J1Nb/5Kj/PzS19b/osTD/X1L7+f/fP4f5j0jt53+fqP8/IbXbf0dG/f83U7v9d07U/x+Y2v7fnVH//6LU9v+Oi/r/26d2/0/P',
  'qP+/MLX7fxZH/f9PpHb/7+ei/v/9qd3/Oy3q///upbTmHxj1/2uXpDX/f6L+/7V3pDX/dVH/P/tEWvPvF63/j01t/jnR+v/51C7/l0fr/zGp/fx7',
  'Llr/n5Xa9V+XaP1/Xmq3fw6J1v/9U7v9e1G0/n8ttf2fR6L1//jU9n8Pjfb/35na/R+ZaP9/c2r3fz0U7f+/LLX7Py+J9v/36tD93y1nt+TGrEH+',
  'urW30nE33xPmPzHo6Pqftwb5Z62DlY37xkHR9/8uX33+fDQ0diX512Xawu//jl2D/KW1NnjeyvL3fzbMv8fsDq3/Xqtt/xvM4nPD/E33rDr/hhXW',
  '/10ryb+687/z6zjuhVEZb+U6Mv/pZwTReUUL9ln08/bjb8s/MMoal7//Oo670/Qwf83OHZn/7Upc4fy39sv/hmgOf+sVjv6BVzs0/+Q1yx86Mnft',
  'ep0LF0Sff83zOjQ/AAAAAAAAwCZizyDm+ooJr7W2R1wZCa+9uVdcGQmvOzc8royE184cGlfGXsnK2D6mjKEJyxgSNx0JLzj53pgyhiWcjh3jykh4',
  'XcX3xM2PhNeHHBg3HQnrdqfyrWtmuTI2oWv6JRFe/++LN3y0erdgxeskJpkl4W/AXpdbrm73TOc8hY2p/Y++9tFvmxMAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAACE/geLGQzpAAAIAA==',
]

const OLD = [
  'H4sIAAAAAAACA+3dB3jcBf3H8d9dEkFaoKUtG3pQKGV1T2ZLW/Zu2atJe22OXpK2uXQgKrgL7gVuUZw4EDei4saBoiKiIuIOKFYUFUXJ/3vJ5f+k',
  '9Xwefmhp09/r9TzvHnmS/H75XXKRXCWfJAGyalH1j4YkGRs31+WSZHTc5ga+Qb6vibUX1yzOLU+Snp4FG3K9b9f3cp/+9xsSXRWNq717Q/V1Y+Yv',
  'W3/TnRtqtw9siWt94r5br1+9cPKw/tvqxzu0/5WPLChujnPmMvJ1NMpDaVCqPjYbo6ba47+p96UBr48HcGPUVH0g9353aHSnwTaiZ6Dcf/n+AMCg',
  'kAz8+be/p9HDc2o/Uvzb+Zt6nztIBjynAPC/dHv1+8/Eet9/8snuA96u+jzhjtFO0c7RsGh4tEs0IhpZew5s12i3FOe/8eruhmR23/Oovc+l1s7f',
  '3ZDrPXa//o9lj9rtnrXbvWq3e9du96nd7pvm/LXv/5ue/+n5/h/nb6x3/Q0bff/fbzOdv/f6h9Y7fz7ZfsDb7R+NiQ54iudZlvr68xtd/4Gb8/q3',
  '4Oe/54buhqak/tf/QCvKzaX2zfX1N7L+/b9DUnugJ31/P3JQ7e80WqPSNnL/O7/zO7/zO7/zO7/zO7/zO7/zO382zp/vfW4rlx////+cz48f3/d8',
  '+8hkh3y5o7Ny6NKOrvYlfc+BjUyemWsuV4qr2psrxdpzYsOS7XIt6yrFzp4He58fG5o05JeUVtWeJ2vK9f/sPrz2crFtRWVd7bmzoUnjdkubOysj',
  'el/3jHxrc2drMc51VN/LuVJ7udQeJzq699xDai8X2jpWFZNj+s61XXn6xOTYvmM1rSitKM6uHbez3LGm+vReoaExt6RYXJEAGxmyyeP/0Ya+xz+Q',
  'Ef4vveDxD3j8Ax7/gMc/4PEPePwDHv+Axz/g8Q94/AODwhwgs44DMmsukFnzgMyaD2TW8UBmja79PUDBX4VA5pwAZNaJQGb1/b7ef//9v9Xf3Vv9',
  'Xb+tzauWFMql9uVJ3xTO3Q0N+c6uFv/iBNuCXL6hsekZ223/zB2GDN1xp52HDd9lxMhRu+62+x577rX3PvuOLuy3/5gDDhx70LiDDzn0sMPHT5g4',
  'afKUqdOmz5g564gjjzr6mGNnzzlu7rz5x59w4kknn3LqaaefceZZZy9YeM65551/wYUXXXzJpZctam5ZvKS4dFlr6fLl5bb2jhUrV3VWulavWbvu',
  'imdd+eznPPeqq5/3/Be88EUvfsn6a6596cte/opXvurVr3nt615/3fVveOOb3vyWt77t7Te84503vuvd73nv+95/0wc++KEP3/yRWz76sY9/4pOf',
  '+vStn7nts5/7/O1f+OKXvvyVr37tjq9/45vfuvPb37nru9/7/t0/uOeH9/7oxz+576f3/+yBn//il7/69W9+2/3gQ7/7/cN/2PDHR/7050f/8te/',
  'Pfb3fzz+z3890eP6Xb/rd/2u3/W7ftfv+l1/lq5/2ICf/6vPBdj/gOwYkfzn/Z/c9klyZdKYVJfIzr372rnV11+48ppbqoNl4y597HH/2TAMbjOi',
  '2cnMXHtzW7HQ3tXWUlxVmFZYU6q0FlZ2lSrFQnOh3NG+rFBpLpULnR2FSmtzpdBS7li8vLOwtFQuV79VzEtmbfT+UyanOEC8/251jjFpUrpj7F/n',
  'GJNTHmNmnftieopDjKn3MaS8L/apd1/MSHeMyfU+J9PTHePAetcyNd0xdq93LSnvj8PqXcvEdMcYXe/jmJXuGNOjezf52kh5d2yV9qh330xJd2EH',
  '1ftaSfn1NrLOYy/Np3nXeteR8utkVp2PIc1D78g675/my2zfetcwM901jKrzMaT5NnhIvc9lysdKoc7HkOZhf3C9jyHl/XBEnY8hzSEmxPt3b/p9',
  'Z8o28IDfROUpm7DWvz3B4Fb9HjZhG/jDZxLSKwGZdTmQWcuBzCoDmdUGZFY7kFkdQGatADJrJZBZq4DM6gQyqwJkVheQWauBzFoDZNZaILPWAZl1',
  'BZBZzUBmtQCZtRjIrCVAZhWBzFoKZNYyILNagcw63gQSZNYJ0YnRSdHJ0SnRqdFp0enRGdGZ0VnR2dGCaGF0TnRudF50fnRBdGF0UXRxdEl0aXRZ',
  'tChqjlqixdGSqBgtdfeD/T/A/h9g/w+w/wfY/wPs/wH2/wD7f4D9P8D+H2D/D7D/B9j/A+z/Afb/APt/YP8PsP8H2P8D7P8B9v8A+3+A/T/A/h9g',
  '/w+w/wcMMhZQwP4PYP8HsP8D2P8B7P8A254kyT+US5KkWj2NuXm9r7otnySnr7v/jnJH+7KEjfivyBmspsbX77xkVq69ua1YaO9qaymuKkyZWVhT',
  'qrQWVnaVKsVCc6H6mC9UmkvlQmdHodLaXCm0lDsWL+8sLC2Vy/H+h9c7xqR0x5hW7xiz0h1jSr1jzEh3jEn1jjEt3TH2qnOMSSmPMbHexzE13THG',
  '1jnG5JQfx371jjEx3TH2rnd/TE93jHH1Po6Un9sD6h1jSrpjHBrdlczc+POS7hBblT17/0d+k8/N1EF8QQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAsBVZVP2jIUnGxs3X80lSiNvcwDfI9zWx/+VHFhSTpKdnwYba2/W+',
  '3Kf//YZEV8VL42rv3lB93Zj5y9bfdOeG2u0DW+Jan7jv1utXL5w8rP+2+vEO3ei6/vdyGfk6GuWhNChVH5uNUVN0T65627jx6+MB3Bg1RX/u/e7Q',
  '6E6DbUQPkGE53wUgo268uruh/+ffNYtzy/t/Du5ueHp+cnV+53d+58/q+bvXdzccGbfVc296/vyAtxuS33zXv/ZJnH/oZjp/zw3dDUc9ifMfvLk+',
  '/8O37Oe/ev13PInrP2Szff3HHzc39j3/3V/tmetLB3wAO8Y/7xTtHA2Lhke7RCOikdGoaNdot2j3aI9ovqdXAAAAYKtQeurceTDItW0h7nnY8pqB',
  'zGoBMmsxkFlLgMwqApm1FMisZUBmtQKZVQIy63Igs5YDmVUGMmvPfJLsFe0d7RPtG42u7gBE+0X7R2OiA6IDo7HRQdG46ODokOjQ6LDo8Gh8NKG6',
  'FxBNiiZHU6Kp0bRoejQjmhnNio6IjoyOio6OjomOjWZHc6LjornRvOrvE4qOj06IToxOik6OTolOjU6LTo/OiM6MzorOjhZEC6NzonOj86Lzowui',
  'C6OLooujS6Lq7zy6LFoUNUct0eJoSVSMlkbLotaoFF0eLY/KUVvUHnVEK6KV0aqoM6pEXdHqaE20NloXXRE9K7oyenb0nOi50VXR1dHzoudHL4he',
  'GL0oenH0kmh9dE10bfTS6GXRy6NXRK+MXhW9OnpN9NroddHro+ui66M3RG+M3hS9OXpL9NbobdHboxuid0TvjG6M3hW9O3pP9N7ofdH7o5uiD0Qf',
  'jD4UfTi6OfpIdEv00ehj0cejT0SfjD4VfTq6NfpMdFv02ehz0eej26MvRF+MvhR9OfpK9NXoa9Ed+b69im9E34y+Fd0ZfTv6TnRX9N3oe9H3o7uj',
  'H0T3RD+M7o1+FP04+kl0X/TT6P7oZ9ED0c+jX0S/jH4V/Tr6TfTbqDt6MHoo+l30++jh6A/RhuiP0SPRn6q/Nz96NPpL9Nfob9Fj0d+jf0SPR/+M',
  '/hU9EfVUH1NJPKaiw6Px0YSkb4NjUjQ5mhJNjaZF06MZ0cxoVnREVP2dctXfq3Z0dEx0bDQ7mhMdF82N5m3B//4P2PLagczqADJrBZBZK4HMWgVk',
  'VieQWRUgs7qAzFoNZNYaILPWApm1DsisK4DMsoAE9r8A+1+A/S/A/hdg/wuw/wXY/wLsfwH2vwD7X4D9L2DrZwEF7P8A9n8A+z+A/R/A/g9g/wew',
  '/wPY/wHs/wD2fwD7P4D9H8D+D2D/B7D/A9j/Aez/APZ/APs/gP0fwP4PYP8HsP8D2P8B7P8A9n8A+z+A/R/A/g9g/wew/wPY/wH7P4D9H8D+D2D/',
  'B7D/A9j/Aez/APZ/APs/gP0fwP4PYP8HsP8D2P8B7P8A9n8A+z+A/R/A/g9g/wew/wPY/wHs/wD2fwD7P4D9H8D+D2D/B7D/A9j/Aez/APZ/wP4P',
  'YP8HsP8D2P8B7P8A9n8A+z+A/R/A/g9g/wew/wPY/wHs/wD2fwD7P4D9H8D+D2D/B7D/A9j/Aez/APZ/APs/gP0fwP4PYP8HsP8D2P8B7P8A9n8A',
  '+z+A/R+w/wPY/wHs/wD2fwD7P4D9H8D+D2D/B7D/A9j/Aez/APZ/APs/gP0fwP4PYP8HsP8D2P8B7P8A9n8A+z+A/R/A/g9g/wew/wPY/wHs/wD2',
  'fwD7P4D9H8D+D2D/B7CAAvZ/APs/gP0fwP4PYP8HsP8D2P8B7P8A9n8A+z+A/R/A/g9g/wew/wPY/wHs/wD2fwD7P4D9H8D+D2D/B7D/A9j/Aez/',
  'APZ/APs/gP0fwP4PYP8HsP8D2P8B7P+A/R/A/g9g/wew/wPY/wHs/wD2fwD7P4D9H8D+D2D/B7D/A9j/Aez/APZ/APs/gP0fwP4PYP8HsP8D2P8B',
  '7P8A9n8A+z+A/R/A/g9g/wew/wPY/wHs/wD2fwD7P2D/B7D/A9j/Aez/APZ/APs/gP0fwP4PYP8HsP8DDC7/B04l+XYAAAwA',
]

const unpack = (lines: readonly string[]): Uint8Array =>
  new Uint8Array(gunzipSync(Buffer.from(lines.join(''), 'base64')))

/** An ext4 with metadata_csum, inline data, extents of depth 1, a hashed directory, attributes in body, block and inode. */
export const goldenCsum = (): Uint8Array => unpack(CSUM)

/** An ext2 without any checksum, with indirect blocks. */
export const goldenOld = (): Uint8Array => unpack(OLD)

const letters = (count: number, block: (n: number) => number): Uint8Array =>
  Buffer.concat(Array.from({ length: count }, (_, n) => Buffer.alloc(1024, block(n))))

/** Content of the regular files in both. */
export const GOLDEN_FILES: Readonly<Record<string, Uint8Array>> = {
  // mke2fs leaves out the hole at the end, where there is inline_data: `old` has a block more
  '/alternate': letters(15, n => (n % 2 === 0 ? 65 + n / 2 : 0)),
  '/inline': Buffer.alloc(59, 'i'),
  '/inline more': Buffer.alloc(120, 'm'),
  '/plain': Buffer.concat(Array.from({ length: 12 }, () => Uint8Array.from({ length: 256 }, (_, n) => n))),
  '/empty': new Uint8Array(0),
  '/bytes\udcff\udce9': new Uint8Array(0),
}

/** Content of `/alternate` in `old`. */
export const GOLDEN_ALTERNATE = Buffer.concat([GOLDEN_FILES['/alternate']!, Buffer.alloc(1024)])

/** Content of the file that only `old` has. */
export const GOLDEN_DEEP = letters(300, n => 97 + (n % 26))
