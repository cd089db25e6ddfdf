# Draws what versus_dpdk measured in its standard setup: gnuplot -e "csv='figures.csv'; svg='figures.svg'" plot.gp
set datafile separator ","
set terminal svg size 1200,1150 dynamic background "white" font "sans,11"
set output svg
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 noborder
set xtics rotate by -30 font ",9" nomirror
set ytics nomirror
set border 3
set grid ytics
set key outside top right horizontal
set yrange [0:*]
set lmargin 7
set rmargin 9
set tmargin 3
set bmargin 9

# From the comments at the top of the figures.
about(key) = system(sprintf("sed -n 's/^# %s: //p' '%s' | sed 's/_/\\\\_/g'", key, csv))
# Columns: stage 1, direction 2, regime 3, path 4, burst 5, size 6, ring 7, queues 8, a 11, b 14.
rows(stage, direction, regime) = sprintf( \
    "awk -F, '$1==\"%s\" && $2==\"%s\" && $3==\"%s\" && $5==32 && $6==64 && $7==256 && $8==1' '%s'", \
    stage, direction, regime, csv)

stages = "cpu cpu instructions instructions cross cross vhost vhost"
directions = "rx tx rx tx forward forward rx tx"
regimes = "- - - - near far near near"
array units[8] = ["cycles per packet", "cycles per packet", "instructions per packet", "instructions per packet", \
    "Mpps, null device on the other core, near", "Mpps, null device on the other core, far", \
    "Mpps, DPDK's vhost on the other core, near", "Mpps, DPDK's vhost on the other core, near"]

set multiplot layout 4,2 title sprintf("%s, commit %s, %s, %s", about("dpdk"), about("commit"), about("cpu"), about("date"))
do for [i=1:8] {
    regime = word(regimes, i) eq "-" ? "" : word(regimes, i)
    command = rows(word(stages, i), word(directions, i), regime)
    set title sprintf("%s, %s", word(directions, i), units[i]) offset 0,-0.5
    if (int(system(command." | wc -l")) > 0) {
        plot "< ".command using 11:xtic(4) title about("a") lc rgb "#888888", "" using 14 title about("b") lc rgb "#1b7f5c"
    } else {
        set title sprintf("%s, %s: not measured", word(directions, i), units[i]) offset 0,-0.5
        plot [0:1] [0:1] NaN notitle
    }
}
unset multiplot
